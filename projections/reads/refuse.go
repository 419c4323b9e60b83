package reads

import (
	"errors"
	"slices"

	"github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// refusals are the errors of MySQL and MariaDB that are about the values of a statement: given again, they are refused
// again, whatever the state of the server. Locks, connections, disks and missing tables are not among them.
var refusals = []uint16{
	1048, // a column cannot be NULL
	1062, // duplicate entry
	1118, // row too large
	1153, // packet too large
	1264, // out of range
	1265, // data truncated
	1292, // wrong value of a type
	1300, // invalid character string
	1366, // incorrect value for a column
	1367, // illegal value while parsing
	1406, // data too long for a column
	1411, // incorrect value for a function
	1690, // value out of range
	1713, // undo record too large
	3140, // invalid JSON text
	3819, // a CHECK is violated (MySQL)
	3854, // a string cannot be converted between character sets
	4025, // a CHECK is violated (MariaDB)
}

// RefusesData tells whether the database refused a statement for the data in it: the same rows will be refused again.
func RefusesData(err error) bool {
	var m *mysql.MySQLError
	if errors.As(err, &m) {
		return slices.Contains(refusals, m.Number)
	}
	if errors.Is(err, mysql.ErrPktTooLarge) {
		return true
	}
	var s *sqlite.Error
	if errors.As(err, &s) {
		switch s.Code() & 0xff {
		case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
			return true
		}
	}
	return false
}

// full are the errors by which MySQL and MariaDB say that there is no room.
var full = []uint16{
	1021, // disk full
	1114, // the table is full: its file, or its tablespace, cannot grow
}

// Full tells whether the database had no room for what was written. It can be written once there is some.
func Full(err error) bool {
	var m *mysql.MySQLError
	if errors.As(err, &m) {
		return slices.Contains(full, m.Number)
	}
	var s *sqlite.Error
	return errors.As(err, &s) && s.Code()&0xff == sqlite3.SQLITE_FULL
}
