package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A Package is one folder of Go files: what they import, and whether the package says what it is for.
type Package struct {
	Path    string // relative to the module's root, with slashes
	Name    string
	Doc     string // the package comment, of whichever file has one
	Imports []Import
}

// An Import is one import clause of a file that is not a test.
type Import struct {
	Path string // as written in the file
	File string // relative to the module's root
	Line int
}

// Load reads every package below root, leaving out tests, testdata, hidden folders and nested modules.
// It returns packages in the order of their paths.
func Load(root string) ([]Package, error) {
	var pkgs []Package
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() {
			return nil
		}
		if path != root && skipped(path, d.Name()) {
			return filepath.SkipDir
		}
		p, err := loadDir(root, path)
		if err != nil {
			return err
		}
		if p.Name != "" {
			pkgs = append(pkgs, p)
		}
		return nil
	})
	return pkgs, err
}

func skipped(path, name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "node_modules" {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err == nil
}

func loadDir(root, dir string) (Package, error) {
	rel, err := filepath.Rel(root, dir)
	if err != nil {
		return Package{}, err
	}
	p := Package{Path: filepath.ToSlash(rel)}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return Package{}, err
	}
	fset := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return Package{}, fmt.Errorf("read the imports of %s: %w", name, err)
		}
		p.Name = f.Name.Name
		if f.Doc != nil {
			p.Doc = f.Doc.Text()
		}
		p.Imports = append(p.Imports, imports(fset, root, f)...)
	}
	return p, nil
}

func imports(fset *token.FileSet, root string, f *ast.File) []Import {
	var list []Import
	for _, spec := range f.Imports {
		at := fset.Position(spec.Pos())
		file, err := filepath.Rel(root, at.Filename)
		if err != nil {
			file = at.Filename
		}
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			path = spec.Path.Value
		}
		list = append(list, Import{Path: path, File: filepath.ToSlash(file), Line: at.Line})
	}
	return list
}
