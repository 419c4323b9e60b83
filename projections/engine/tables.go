package engine

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/dangdangsalon/salon/projections/reads"
)

// EnsureTables makes the tables of SQL projections where they are missing, makes these versions live, and points reads at a
// projection's version unless they are pointed at one already. A table that is there with other columns is refused: a
// changed table is a new version. A view needs nothing but the tables behind it.
func EnsureTables(ctx context.Context, db *reads.DB, projections ...Projection) error {
	for _, p := range projections {
		if p.Behind != "" {
			continue
		}
		if err := makeTables(ctx, db.Writer(), db.Dialect(), p, true); err != nil {
			return err
		}
		for _, insert := range []string{
			"INTO projection_pointers (projection, version) VALUES (?, ?)",
			"INTO projection_versions (projection, version, state, verified_run) VALUES (?, ?, 'live', '')",
		} {
			if db.Dialect() == reads.MySQL {
				insert = "INSERT IGNORE " + insert
			} else {
				insert = "INSERT " + insert + " ON CONFLICT DO NOTHING"
			}
			if _, err := db.Writer().ExecContext(ctx, insert, p.Name, p.Version); err != nil {
				return fmt.Errorf("begin %s: %w", p.ID(), err)
			}
		}
	}
	return nil
}

// MakeBareTables makes the tables of a version where they are missing, without the indexes that MakeIndexes makes: a rebuild
// fills them first. On SQLite they have their indexes at once: to make one later holds up its only writer, and so the live
// projections, for as long as the table is read.
func MakeBareTables(ctx context.Context, db reads.Conn, dialect reads.Dialect, p Projection) error {
	return makeTables(ctx, db, dialect, p, dialect == reads.SQLite)
}

func makeTables(ctx context.Context, db reads.Conn, dialect reads.Dialect, p Projection, indexed bool) error {
	if p.Target != SQL {
		return nil
	}
	for _, t := range p.Tables {
		if err := ensureTable(ctx, db, dialect, t.Def().at(p.Version), p.Version, indexed); err != nil {
			return err
		}
	}
	return nil
}

func ensureTable(ctx context.Context, db reads.Conn, dialect reads.Dialect, d *Def, version int, indexed bool) error {
	if probe(ctx, db, d, version) == nil {
		return nil
	}
	for _, statement := range d.ddl(dialect, version, indexed) {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("make table %s: %w", d.Name(version), err)
		}
	}
	if err := probe(ctx, db, d, version); err != nil {
		return fmt.Errorf("table %s does not have the columns of its projection, which needs a new version: %w", d.Name(version), err)
	}
	return nil
}

// MakeIndexes makes the indexes of a version's tables that are missing, by one connection or any. It may be called again
// wherever it ended: which are there is read from the database.
func MakeIndexes(ctx context.Context, db reads.Conn, dialect reads.Dialect, p Projection) error {
	for _, t := range p.Tables {
		d := t.Def().at(p.Version)
		name := d.Name(p.Version)
		there, err := indexesOf(ctx, db, dialect, name)
		if err != nil {
			return fmt.Errorf("index table %s: %w", name, err)
		}
		var missing []string
		for _, i := range d.indexes() {
			switch {
			case dialect == reads.SQLite:
				missing = append(missing, i.sqlite(name))
			case !there[i.Name]:
				missing = append(missing, "ADD "+i.mysql())
			}
		}
		if dialect == reads.MySQL && len(missing) > 0 {
			missing = []string{"ALTER TABLE " + name + " " + strings.Join(missing, ", ")} // one reading of the table for all
		}
		for _, statement := range missing {
			if _, err := db.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("index table %s: %w", name, err)
			}
		}
	}
	return nil
}

// indexesOf names the indexes of a table on MySQL. SQLite need not be asked: there, IF NOT EXISTS does.
func indexesOf(ctx context.Context, db reads.Queryer, dialect reads.Dialect, table string) (map[string]bool, error) {
	if dialect == reads.SQLite {
		return nil, nil
	}
	rows, err := db.QueryContext(ctx, "SELECT DISTINCT index_name FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = ?", table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	there := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		there[name] = true
	}
	return there, rows.Err()
}

// probe asks for the columns that the table must have.
func probe(ctx context.Context, db reads.Queryer, d *Def, version int) error {
	rows, err := db.QueryContext(ctx, "SELECT "+d.ColumnList("")+", ordering_key FROM "+d.Name(version)+" WHERE 1 = 0")
	if err != nil {
		return err
	}
	defer rows.Close()
	return rows.Err()
}

// DropTables removes a version's tables, by one connection or any.
func DropTables(ctx context.Context, db reads.Execer, p Projection) error {
	for _, t := range p.Tables {
		if _, err := db.ExecContext(ctx, "DROP TABLE IF EXISTS "+t.Def().Name(p.Version)); err != nil {
			return fmt.Errorf("drop table %s: %w", t.Def().Name(p.Version), err)
		}
	}
	return nil
}

const mysqlText = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL"

// indexes are those beside the primary key.
func (d *Def) indexes() []Index {
	return append([]Index{{Name: "by_ordering_key", Columns: []string{"ordering_key"}}}, d.Indexes...)
}

func (i Index) mysql() string { return "KEY " + i.Name + " (" + quoteAll(i.Columns) + ")" }

// sqlite has the table's name in the index's, which is the database's there.
func (i Index) sqlite(table string) string {
	return "CREATE INDEX IF NOT EXISTS " + table + "_" + i.Name + " ON " + table + " (" + quoteAll(i.Columns) + ")"
}

// ddl spells the table, with its indexes or without.
func (d *Def) ddl(dialect reads.Dialect, version int, indexed bool) []string {
	name := d.Name(version)
	types := map[Kind]string{ID: "TEXT NOT NULL", Text: "TEXT NOT NULL", Int: "INTEGER NOT NULL", Time: "INTEGER NOT NULL", JSON: "TEXT NOT NULL"}
	if dialect == reads.MySQL {
		types = map[Kind]string{
			ID: "VARCHAR(191)" + mysqlText, Text: "MEDIUMTEXT" + mysqlText, Int: "BIGINT NOT NULL", Time: "BIGINT NOT NULL", JSON: "MEDIUMTEXT" + mysqlText,
		}
	}
	var lines []string
	for _, c := range d.Columns {
		lines = append(lines, quote(c.Name)+" "+types[c.Kind])
	}
	lines = append(lines, "ordering_key "+types[ID])
	pk := make([]string, len(d.PK))
	for i, c := range d.PK {
		pk[i] = d.Columns[c].Name
	}
	lines = append(lines, "PRIMARY KEY ("+quoteAll(pk)+")")
	var indexes []Index
	if indexed {
		indexes = d.indexes()
	}
	if dialect == reads.MySQL {
		for _, i := range indexes {
			lines = append(lines, i.mysql())
		}
		return []string{"CREATE TABLE IF NOT EXISTS " + name + " (\n  " + strings.Join(lines, ",\n  ") +
			"\n) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"}
	}
	statements := []string{"CREATE TABLE IF NOT EXISTS " + name + " (\n  " + strings.Join(lines, ",\n  ") + "\n) WITHOUT ROWID"}
	for _, i := range indexes {
		statements = append(statements, i.sqlite(name))
	}
	return statements
}

// quote makes any column name usable: rank and offset are reserved in MySQL, and SQLite reads backquotes too.
func quote(name string) string { return "`" + name + "`" }

func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quote(n)
	}
	return strings.Join(quoted, ", ")
}

// tableSQL writes and reads one table of one version.
type tableSQL struct {
	d       *Def // names the table in a unit of work
	at      *Def // has the columns of this version
	dialect reads.Dialect
	name    string
	columns string // all of them, in the order of Def.Values
	insert  string // up to VALUES
	tuple   string // (?, ?, …)
	onDup   string // after the tuples
	selects string // up to IN
	keys    string // of one row within IN
	remove  string
}

func newTableSQL(d *Def, dialect reads.Dialect, version int) *tableSQL {
	t := &tableSQL{d: d, dialect: dialect, name: d.Name(version)}
	d = d.at(version)
	t.at = d
	t.columns = d.ColumnList("") + ", ordering_key"
	t.insert = "INSERT INTO "
	if dialect == reads.SQLite {
		// Or it keeps, for each statement of several rows, what it changes a second time, to take the rows before a bad one back:
		// whoever meets an error undoes the whole transaction.
		t.insert = "INSERT OR FAIL INTO "
	}
	t.insert += t.name + " (" + t.columns + ") VALUES "
	t.tuple = "(" + strings.Repeat("?, ", len(d.Columns)) + "?)"

	isPK := map[int]bool{}
	var pk []string
	for _, c := range d.PK {
		isPK[c] = true
		pk = append(pk, d.Columns[c].Name)
	}
	var sets []string
	for i, c := range d.Columns {
		if isPK[i] {
			continue
		}
		if dialect == reads.MySQL {
			sets = append(sets, quote(c.Name)+" = VALUES("+quote(c.Name)+")")
		} else {
			sets = append(sets, quote(c.Name)+" = excluded."+quote(c.Name))
		}
	}
	if dialect == reads.MySQL {
		sets = append(sets, "ordering_key = VALUES(ordering_key)")
		t.onDup = " ON DUPLICATE KEY UPDATE " + strings.Join(sets, ", ")
	} else {
		sets = append(sets, "ordering_key = excluded.ordering_key")
		t.onDup = " ON CONFLICT (" + quoteAll(pk) + ") DO UPDATE SET " + strings.Join(sets, ", ")
	}

	one := "?"
	of := quote(pk[0])
	if len(pk) > 1 {
		one = "(" + strings.TrimSuffix(strings.Repeat("?, ", len(pk)), ", ") + ")"
		of = "(" + quoteAll(pk) + ")"
	}
	t.keys = one
	in := " IN ("
	if len(pk) > 1 && dialect == reads.SQLite {
		in = " IN (VALUES " // SQLite takes a list of rows only as a table
	}
	t.selects = "SELECT " + t.columns + " FROM " + t.name + " WHERE " + of + in
	t.remove = "DELETE FROM " + t.name + " WHERE " + of + in
	return t
}

// sizes of statements on SQLite, so that few texts are prepared: a longer list is cut into these, a list of keys is
// filled up by repeating the last one. On MySQL nothing is prepared, and each statement is a round trip.
var sizes = []int{1, 4, 16, 64, mostRows}

const mostRows = 256

func (t *tableSQL) sizeFor(n int) int {
	if t.dialect == reads.MySQL {
		return min(n, mostRows)
	}
	for _, s := range sizes {
		if n <= s {
			return s
		}
	}
	return mostRows
}

// load reads the rows that the members name into their units; those that are not there are noted as absent. Two members
// do not name one row: it belongs to one ordering key, and that to one partition.
func (t *tableSQL) load(ctx context.Context, tx *transaction, members []*member) error {
	var refs []Ref
	units := map[string]*Unit{}
	for _, m := range members {
		for _, r := range m.b.refs {
			if r.table != t.d {
				continue
			}
			if units[r.key] != nil {
				return fmt.Errorf("two partitions read row %q of %s", r.key, t.name)
			}
			refs, units[r.key] = append(refs, r.Ref), m.o.unit
		}
	}
	for len(refs) > 0 {
		size := t.sizeFor(len(refs))
		n := min(size, len(refs))
		args := make([]any, 0, size*len(t.d.PK))
		for i := range size {
			args = append(args, refs[min(i, n-1)].parts...)
		}
		rows, err := tx.query(ctx, t.selects+list(t.keys, size)+")", args...)
		if err != nil {
			return fmt.Errorf("load %s: %w", t.name, err)
		}
		if err := t.scan(rows, units); err != nil {
			return fmt.Errorf("load %s: %w", t.name, err)
		}
		refs = refs[n:]
	}
	return nil
}

func (t *tableSQL) scan(rows *sql.Rows, units map[string]*Unit) error {
	defer rows.Close()
	for rows.Next() {
		var ordering string
		row, err := t.at.scan(rows.Scan, &ordering)
		if err != nil {
			return err
		}
		key := t.d.keyOf(row)
		if u := units[key]; u != nil {
			u.loaded(t.d, key, row, ordering)
		}
	}
	return rows.Err()
}

// execer takes statements: a transaction, or what writes them down for a benchmark.
type execer interface {
	exec(ctx context.Context, query string, args ...any) error
}

// write puts and removes the changed rows.
func (t *tableSQL) write(ctx context.Context, tx execer, changed []change) error {
	var puts, removes []change
	for _, c := range changed {
		if c.slot.row == nil {
			removes = append(removes, c)
		} else {
			puts = append(puts, c)
		}
	}
	if err := t.insertRows(ctx, tx, puts, t.onDup); err != nil {
		return err
	}
	for len(removes) > 0 {
		n := t.largestBelow(len(removes))
		args := make([]any, 0, n*len(t.d.PK))
		for _, c := range removes[:n] {
			args = append(args, c.slot.parts...)
		}
		if err := tx.exec(ctx, t.remove+list(t.keys, n)+")", args...); err != nil {
			return fmt.Errorf("delete from %s: %w", t.name, err)
		}
		removes = removes[n:]
	}
	return nil
}

// insertRows writes rows by INSERTs of many, each with what may follow its values.
func (t *tableSQL) insertRows(ctx context.Context, tx execer, rows []change, onDup string) error {
	for len(rows) > 0 {
		n := t.largestBelow(len(rows))
		args := make([]any, 0, n*(len(t.at.Columns)+1))
		for _, c := range rows[:n] {
			values, err := t.at.Values(c.slot.row)
			if err != nil {
				return &foldError{err} // the row cannot be stored: the fold's fault, not the database's
			}
			args = append(append(args, values...), c.slot.ordering)
		}
		if err := tx.exec(ctx, t.insert+list(t.tuple, n)+onDup, args...); err != nil {
			return fmt.Errorf("write %s: %w", t.name, err)
		}
		rows = rows[n:]
	}
	return nil
}

func (t *tableSQL) largestBelow(n int) int {
	if t.dialect == reads.MySQL {
		return min(n, mostRows)
	}
	for i := len(sizes) - 1; i > 0; i-- {
		if sizes[i] <= n {
			return sizes[i]
		}
	}
	return 1
}

func list(item string, n int) string {
	if n == 1 {
		return item
	}
	return strings.Repeat(item+", ", n-1) + item
}
