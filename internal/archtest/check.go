package archtest

import (
	"fmt"
	"strings"
)

// Module is the path that our own imports begin with.
const Module = "github.com/dangdangsalon/salon"

// A Layer says which of our folders the packages of one folder may import.
type Layer struct {
	Folder string   // this folder and all below it, unless a longer Folder matches
	May    []string // folders of ours, each with all below it; one ending in "/." means that package alone
	Why    string
}

// A Library says in which of our folders a third-party module may be imported.
type Library struct {
	Path string   // an import path and all below it, unless a longer Path matches
	In   []string // folders of ours, each with all below it
	Most int      // how many packages may import it; 0 means any number
	Why  string
}

// Rules are both tables, and the packages that serve tests alone.
type Rules struct {
	Layers      []Layer
	Libraries   []Library
	TestSupport []string // may import anything; nothing but tests and each other may import them
}

// A Violation is one import that a rule forbids.
type Violation struct {
	Import  Import
	Package string
	Why     string
}

func (v Violation) String() string {
	return fmt.Sprintf("%s:%d: %s must not import %s: %s", v.Import.File, v.Import.Line, v.Package, v.Import.Path, v.Why)
}

// Check returns every import in pkgs that r forbids, in the order of the packages.
func (r Rules) Check(pkgs []Package) []Violation {
	var found []Violation
	users := map[string]map[string]bool{} // library → the packages that import it
	for _, p := range pkgs {
		if r.testSupport(p.Path) {
			continue
		}
		for _, i := range p.Imports {
			if why := r.forbids(p.Path, i.Path, users); why != "" {
				found = append(found, Violation{Import: i, Package: p.Path, Why: why})
			}
		}
	}
	return found
}

func (r Rules) forbids(pkg, path string, users map[string]map[string]bool) string {
	switch ours, ok := strings.CutPrefix(path, Module+"/"); {
	case ok:
		return r.forbidsOurs(pkg, ours)
	case path == "testing" || strings.HasPrefix(path, "testing/"):
		return "it registers test flags in the binary; what only tests need lives in their files or in " + strings.Join(r.TestSupport, ", ")
	case !strings.Contains(strings.Split(path, "/")[0], "."):
		return "" // the standard library: the only paths without a domain name
	default:
		return r.forbidsTheirs(pkg, path, users)
	}
}

func (r Rules) forbidsOurs(pkg, ours string) string {
	if r.testSupport(ours) {
		return "it is there for tests; the binary must not carry it"
	}
	layer, ok := longest(r.Layers, pkg, func(l Layer) string { return l.Folder })
	if !ok {
		return "no layer in internal/archtest/rules.go names this folder; add one with its reason, beside DESIGN's table"
	}
	if within(ours, layer.Folder) {
		return ""
	}
	for _, may := range layer.May {
		if only, ok := strings.CutSuffix(may, "/."); ok && ours == only || !ok && within(ours, may) {
			return ""
		}
	}
	return layer.Why
}

func (r Rules) forbidsTheirs(pkg, path string, users map[string]map[string]bool) string {
	lib, ok := longest(r.Libraries, path, func(l Library) string { return l.Path })
	if !ok {
		return "no line in internal/archtest/rules.go names this library; add one that says what it is for and where it may be used"
	}
	for _, folder := range lib.In {
		if !within(pkg, folder) {
			continue
		}
		if users[lib.Path] == nil {
			users[lib.Path] = map[string]bool{}
		}
		users[lib.Path][pkg] = true
		if lib.Most > 0 && len(users[lib.Path]) > lib.Most {
			return fmt.Sprintf("at most %d packages may: %s", lib.Most, lib.Why)
		}
		return ""
	}
	return lib.Why
}

func (r Rules) testSupport(pkg string) bool {
	for _, folder := range r.TestSupport {
		if within(pkg, folder) {
			return true
		}
	}
	return false
}

// longest returns the rule whose prefix matches path with the most characters: the special case before the general one.
func longest[T any](rules []T, path string, prefix func(T) string) (best T, ok bool) {
	for _, rule := range rules {
		if within(path, prefix(rule)) && (!ok || len(prefix(rule)) > len(prefix(best))) {
			best, ok = rule, true
		}
	}
	return best, ok
}

// within compares whole path elements: readapi/live lies within readapi, readapis does not.
func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}
