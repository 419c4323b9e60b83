// Package archtest keeps the folders of this module pointing one way.
//
// It reads the import statements of the whole tree and compares them with two tables in rules.go: which of our folders
// may know which ([Layers]), and in which folders a library may be used ([Libraries]). Each line carries its reason, and
// the reason is what a failing test prints, beside the file and line of the import. A folder or a library that no line
// names is refused too: nothing joins the picture unseen.
//
// Test files are free to import what they need; only what ends up in the binary is checked. [Load] parses import
// clauses alone, without build constraints, so that a file for another system or behind a tag is held to the same rules.
package archtest
