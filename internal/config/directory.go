package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Variable is the environment variable of a setting, by its flag's name.
func Variable(flag string) string {
	return "SALON_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Found is a value that is not from a flag.
type Found struct{ Value, From string }

// maxSetting is more than any setting needs: a directory of something else is to be refused, not read.
const maxSetting = 64 << 10

// Directory reads a directory that holds one file for each setting, as orchestrators mount secrets and maps of
// settings. A file has the name of the flag (events) or of its variable (SALON_EVENTS) and holds the value; white space at
// its ends is cut off. A file named as a flag that ends in -file, without that end (master-key), is the file itself.
// Names that begin with a dot are those of whoever mounts, and are left alone.
//
// The answer is by flag. Errors name every file that is no setting, is empty, or says twice what another says.
func Directory(path string, flags []string) (map[string]Found, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("--settings: %w", err)
	}
	found := map[string]Found{}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		file := filepath.Join(path, e.Name())
		flag, isFile, ok := settingOf(e.Name(), flags)
		if !ok {
			errs = append(errs, fmt.Errorf("--settings: %s is no setting%s", file, meant(e.Name(), names(flags))))
			continue
		}
		if earlier, twice := found[flag]; twice {
			errs = append(errs, fmt.Errorf("--settings: %s and %s are the same setting", earlier.From, file))
			continue
		}
		value := file
		if !isFile {
			if value, err = readSetting(file); err != nil {
				errs = append(errs, fmt.Errorf("--settings: %w", err))
				continue
			}
		}
		found[flag] = Found{value, file}
	}
	return found, errors.Join(errs...)
}

// settingOf is the flag that a file's name stands for, and whether the file is its value, not its holder.
func settingOf(name string, flags []string) (flag string, isFile, ok bool) {
	if rest, is := strings.CutPrefix(name, "SALON_"); is && rest == strings.ToUpper(rest) {
		name = strings.ToLower(strings.ReplaceAll(rest, "_", "-"))
	}
	switch {
	case slices.Contains(flags, name):
		return name, false, true
	case slices.Contains(flags, name+"-file"):
		return name + "-file", true, true
	}
	return "", false, false
}

func readSetting(file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSetting {
		return "", fmt.Errorf("%s is no file of a setting's size", file)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	value := strings.TrimSpace(string(b))
	if value == "" {
		return "", fmt.Errorf("%s is empty", file)
	}
	return value, nil
}

// around are the beginnings of variables that are not the binary's: of tests and service scripts, of deployment, and what
// Kubernetes puts into each container for a Service named salon.
var around = []string{"SALON_TEST_", "SALON_SERVICES_", "SALON_DEPLOY_", "SALON_VERSION_", "SALON_SERVICE_", "SALON_PORT_"}

// aroundWhole are such variables by their whole name: those that docker-compose.yml takes.
var aroundWhole = []string{
	"SALON_IMAGE", "SALON_VERSION", "SALON_COMMIT", "SALON_PORT", "SALON_BIND", "SALON_NET", "SALON_SECRETS", "SALON_NGINX_LIMITS",
	"SALON_POSTGRES_PRIMARY", "SALON_MYSQL_PRIMARY",
}

// Unknown complains about every variable SALON_… that is no setting: one that is misspelt would leave a default in force
// that nobody wants. environ is as os.Environ has it; values are not repeated.
func Unknown(environ, flags []string) error {
	var errs []error
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "SALON_") || slices.Contains(aroundWhole, name) ||
			slices.ContainsFunc(around, func(a string) bool { return strings.HasPrefix(name, a) }) ||
			slices.ContainsFunc(flags, func(f string) bool { return Variable(f) == name }) {
			continue
		}
		var known []string
		for _, f := range flags {
			known = append(known, Variable(f))
		}
		errs = append(errs, fmt.Errorf("%s is no setting%s", name, meant(name, known)))
	}
	return errors.Join(errs...)
}

// names are all that a file in a directory of settings may be called.
func names(flags []string) (all []string) {
	for _, f := range flags {
		all = append(all, f, Variable(f))
		if file, is := strings.CutSuffix(f, "-file"); is {
			all = append(all, file)
		}
	}
	return all
}

// meant is a suggestion: the known name that is the fewest changes away, when these are few.
func meant(name string, known []string) string {
	best, least := "", max(2, len(name)/3)+1
	for _, k := range known {
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return "; salon config lists all"
	}
	return "; did you mean " + best + "?"
}

// distance counts the letters to insert, delete or replace to make b of a (Levenshtein, by rows).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
