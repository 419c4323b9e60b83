package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/harness"
)

const runbookFile = "../../docs/runbook.md"

// Blocks of the runbook that are commands: ```sh NAME, or ```sh untested. Those whose name begins with compose- are run by
// `make test-deploy`.
var runbookBlock = regexp.MustCompile("(?ms)^```sh *([a-z0-9-]*)\n(.*?)^```$")

func runbookBlocks(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]string{}
	for _, b := range runbookBlock.FindAllStringSubmatch(string(text), -1) {
		name, commands := b[1], b[2]
		if _, twice := blocks[name]; twice && name != "untested" || name == "" {
			t.Fatalf("a block of the runbook has no name of its own (%q):\n%s", name, commands)
		}
		blocks[name] = commands
	}
	return blocks
}

// runbook runs the commands of docs/runbook.md as an operator would, with their variables set.
type runbook struct {
	t      *testing.T
	blocks map[string]string
	path   string   // where salon and the clients are
	env    []string // SALON_…
	user   *syscall.SysProcAttr
}

// as is the same, run as another user.
func (r *runbook) as(user *syscall.SysProcAttr) *runbook {
	other := *r
	other.user = user
	return &other
}

func newRunbook(t *testing.T, env ...string) *runbook {
	t.Helper()
	r := &runbook{t: t, blocks: runbookBlocks(t), path: t.TempDir(), env: env}
	r.command("salon", harness.Binary(t))
	r.command("mysql", "mariadb") // speaks to both; MySQL's own is not in Debian
	return r
}

// command makes words of a command line one command.
func (r *runbook) command(name string, words ...string) {
	r.t.Helper()
	script := "#!/bin/sh\nexec '" + strings.Join(words, "' '") + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(r.path, name), []byte(script), 0o700); err != nil { //nolint:gosec // a script is run
		r.t.Fatal(err)
	}
}

// run runs a block with these variables and answers what it printed.
func (r *runbook) run(name string, variables ...string) string {
	r.t.Helper()
	commands, found := r.blocks[name]
	if !found {
		r.t.Fatalf("the runbook has no block %s", name)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", commands)
	c.Dir, c.SysProcAttr = "/", r.user
	c.Env = append(append(os.Environ(), "PATH="+r.path+":"+os.Getenv("PATH")), append(slices.Clone(r.env), variables...)...)
	out, err := c.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s: %v\n%s%s", name, err, commands, out)
	}
	return string(out)
}

// Commands that nobody runs rot: each block has a test that names it, or a step of make test-deploy, or says that it is untested.
func TestEveryCommandOfTheRunbookIsRun(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("r*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	const steps = "../../deploy/test/faults.sh"
	var tests strings.Builder
	for _, f := range append(files, steps) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(b)
	}
	blocks := runbookBlocks(t)
	if len(blocks) < 10 {
		t.Errorf("only %d blocks found", len(blocks))
	}
	for name := range blocks {
		call := `run("` + name + `"`
		if strings.HasPrefix(name, "compose-") {
			call = " " + name
		}
		if name != "untested" && !strings.Contains(tests.String(), call) {
			t.Errorf("no test runs the block %s", name)
		}
	}
}
