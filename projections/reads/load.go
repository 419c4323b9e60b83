package reads

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-sql-driver/mysql"
)

// ErrNoLocal says that a server takes no LOAD DATA LOCAL. The transaction that asked can go on.
var ErrNoLocal = errors.New("local_infile is off on the server of the reads database")

// noLocal are the errors by which MySQL and MariaDB say so; the second is MySQL's before 8.0.
var noLocal = []uint16{3948, 1148, 4166}

// LoadData sends rows to a table of MySQL or MariaDB by LOAD DATA LOCAL, as part of the transaction, and answers how many
// were taken. The rows are a line each, in the statement's own form: a tab between two values, and \t, \n and \\ for what
// would be taken for something else.
//
// LOCAL makes the server count errors as warnings, leave such a row out or cut it, and go on. So any warning is an error
// here, with its own number, see [RefusesData]; the caller compares the count with what it sent. With replace a row that is
// there already is replaced, and counts twice.
func LoadData(ctx context.Context, tx *sql.Tx, table, columns string, replace bool, rows io.Reader) (taken int64, err error) {
	// The driver knows readers by name, for all connections at once.
	name := rand.Text()
	mysql.RegisterReaderHandler(name, func() io.Reader { return rows })
	defer mysql.DeregisterReaderHandler(name)
	into := "INTO TABLE "
	if replace {
		into = "REPLACE " + into
	}
	r, err := tx.ExecContext(ctx, "LOAD DATA LOCAL INFILE 'Reader::"+name+"' "+into+table+" CHARACTER SET utf8mb4 ("+columns+")")
	var m *mysql.MySQLError
	if errors.As(err, &m) && slices.Contains(noLocal, m.Number) {
		return 0, ErrNoLocal
	}
	if err != nil {
		return 0, err
	}
	w := mysql.MySQLError{}
	var level string
	err = tx.QueryRowContext(ctx, "SHOW WARNINGS LIMIT 1").Scan(&level, &w.Number, &w.Message)
	if err == nil {
		return 0, &w
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("look for warnings: %w", err)
	}
	return r.RowsAffected()
}
