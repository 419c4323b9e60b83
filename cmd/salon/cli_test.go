package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/harness"
)

// called is what a call of the command line left behind.
type called struct {
	code     int
	out, err string
}

func call(t *testing.T, args ...string) called {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // a call that should fail may wait for ever instead
	defer cancel()
	var out, errs bytes.Buffer
	code := run(ctx, args, &out, &errs)
	return called{code, out.String(), errs.String()}
}

// refused checks that a call ended with the code and says each of these; one line of it when the code is 1.
func (c called) refused(t *testing.T, code int, says ...string) {
	t.Helper()
	if c.code != code {
		t.Errorf("exit code %d, want %d\n%s%s", c.code, code, c.out, c.err)
	}
	for _, s := range says {
		if !strings.Contains(c.err, s) {
			t.Errorf("it does not say %q:\n%s", s, c.err)
		}
	}
	if lines := strings.Count(strings.TrimSpace(c.err), "\n") + 1; code == 1 && lines != 1 {
		t.Errorf("%d lines instead of one:\n%s", lines, c.err)
	}
}

func TestAWrongCallSaysEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	nowhere := "127.0.0.1:1"
	key := filepath.Join(t.TempDir(), "auth.key")
	all := []string{"--events", "postgres://u@" + nowhere + "/db", "--kafka", nowhere, "--reads", "mysql://u@" + nowhere + "/db", "--redis", "redis://" + nowhere + "/0"}
	for _, c := range []struct {
		name string
		args []string
		says []string
	}{
		{"no verb", nil, []string{"--help"}},
		{"an unknown verb", []string{"sing"}, []string{"sing", "--help"}},
		{"an unknown flag", []string{"up", "--dta", "x"}, []string{"--dta"}},
		{"serve without a role", []string{"serve"}, []string{"roles"}},
		{"serve with an unknown role", []string{"serve", "barber"}, []string{"commands", "projector"}},
		{"serve without servers", []string{"serve", "commands", "readapi", "relay", "projector"}, []string{"--events", "--kafka", "--reads", "--redis", "--master-key-file", "--auth-key-file"}},
		{"commands alone needs the store and the keys", []string{"serve", "commands"}, []string{"--events", "--master-key-file", "--auth-jwks"}},
		{"a projector needs every server", []string{"serve", "projector"}, []string{"--events", "--kafka", "--reads", "--redis"}},
		{"another database", []string{"serve", "projector", "--kafka", nowhere, "--reads", "oracle://u:secret@h/d", "--redis", "redis://h:1"}, []string{"--reads", "mysql"}},
		{"a broker without a port", []string{"serve", "projector", "--kafka", "kafka", "--reads", "sqlite:x", "--redis", "redis://h:1"}, []string{"--kafka", "host:port"}},
		{"a URL that is none", []string{"serve", "relay", "--kafka", nowhere, "--events", "postgres://u:secret@ho st/db"}, []string{"--events"}},
		{"a Redis database that is no number", append([]string{"serve", "projector"}, append(all, "--redis", "redis://u:secret@"+nowhere+"/first")...), []string{"--redis"}},
		{"a reads URL without a database", append([]string{"serve", "projector"}, append(all, "--reads", "mysql://u:secret@"+nowhere)...), []string{"--reads"}},
		{"no partitions", append([]string{"topics", "check", "--kafka", nowhere}, "--partitions", "0"), []string{"--partitions"}},
		{"a value and a file of it", append([]string{"migrate", "up", "--events-file", key}, all...), []string{"--events-file"}},
		{"a file that is not there", []string{"migrate", "up", "--events-file", key, "--reads", "sqlite:x"}, []string{"--events-file"}},
		{"migrate without databases", []string{"migrate", "up"}, []string{"--events", "--reads"}},
		{"topics without brokers", []string{"topics", "ensure"}, []string{"--kafka"}},
		{"a token for nobody", []string{"token", "--role", "customer"}, []string{"--sub"}},
		{"a token for no role", []string{"token", "--sub", "kim", "--role", "king"}, []string{"--role"}},
		{"a level that is none", []string{"up", "--log-level", "loud"}, []string{"--log-level"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := call(t, c.args...)
			got.refused(t, 2, c.says...)
			if strings.Contains(got.err+got.out, "secret") {
				t.Errorf("it repeats a password:\n%s", got.err)
			}
		})
	}
}

func TestEveryVerbExplainsItself(t *testing.T) {
	t.Parallel()
	k, err := kong.New(&cli{}, kong.Vars{"version": "", "data": ""})
	if err != nil {
		t.Fatal(err)
	}
	verbs := [][]string{nil}
	for _, leaf := range k.Model.Leaves(true) {
		verbs = append(verbs, strings.Fields(strings.Split(leaf.Path(), " <")[0]))
	}
	if len(verbs) < 10 {
		t.Fatalf("only %d verbs found", len(verbs))
	}
	for _, verb := range verbs {
		if got := call(t, append(verb, "--help")...); got.code != 0 || !strings.Contains(got.out, "Usage: salon") || got.err != "" {
			t.Errorf("salon %v --help: exit %d\n%s%s", verb, got.code, got.out, got.err)
		}
	}
	if got := call(t, "--version"); got.code != 0 || got.out != versionLine()+"\n" {
		t.Errorf("--version: exit %d, %q", got.code, got.out)
	}
}

func TestTheOpenAPIDocumentIsPrintedAndWritten(t *testing.T) {
	t.Parallel()
	printed := call(t, "openapi")
	var document struct {
		OpenAPI string
		Paths   map[string]any
	}
	if err := json.Unmarshal([]byte(printed.out), &document); err != nil || printed.code != 0 {
		t.Fatalf("exit %d, %v", printed.code, err)
	}
	if !strings.HasPrefix(document.OpenAPI, "3.1") || document.Paths["/v1/reservations"] == nil || document.Paths["/v1/groomers/{groomer_id}/slots"] == nil {
		t.Errorf("OpenAPI %s with %d paths", document.OpenAPI, len(document.Paths))
	}
	file := filepath.Join(t.TempDir(), "openapi.json")
	if got := call(t, "openapi", "--out", file); got.code != 0 {
		t.Fatal(got)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != printed.out {
		t.Errorf("the file differs from what is printed (%v)", err)
	}
	call(t, "openapi", "--out", filepath.Join(file, "x")).refused(t, 1, "x")
}

func TestAFailureIsOneLineThatSaysWhatToDo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		says []string
	}{
		{"a busy port", []string{"up", "--data", filepath.Join(dir, "busy"), "--listen", taken.Addr().String()}, []string{taken.Addr().String(), "--listen"}},
		{"a busy port for metrics", []string{"up", "--data", filepath.Join(dir, "metrics"), "--listen", "127.0.0.1:0", "--metrics-listen", taken.Addr().String()}, []string{taken.Addr().String(), "--metrics-listen"}},
		{"an address that is none", []string{"up", "--data", filepath.Join(dir, "none"), "--listen", "here"}, []string{"--listen"}},
		{"a data folder that cannot be", []string{"up", "--data", filepath.Join(file, "x"), "--listen", "127.0.0.1:0"}, []string{"data folder"}},
		{"a token without a key", []string{"token", "--sub", "kim", "--role", "customer", "--data", dir}, []string{"salon up", "--auth-key-file"}},
		{"doctor without a process", []string{"doctor", "--data", dir}, []string{"salon up", "--events"}},
		{"a demo against nothing", []string{"demo", "--data", dir, "--url", "http://127.0.0.1:1"}, []string{"127.0.0.1:1", "--url"}},
		{"a SQLite folder that cannot be", []string{"migrate", "up", "--events", "sqlite:" + filepath.Join(file, "x"), "--reads", "sqlite:" + filepath.Join(dir, "r.db")}, []string{"event store"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			call(t, c.args...).refused(t, 1, c.says...)
		})
	}
}

func TestADataFolderHasOneOwner(t *testing.T) {
	t.Parallel()
	data, address := filepath.Join(t.TempDir(), "data"), harness.Address(t)
	p := harness.Start(t, nil, "up", "--data", data, "--listen", address)
	p.Await(t, "is open at http://"+address)

	pid := fmt.Sprintf("process %d", p.PID())
	call(t, "up", "--data", data, "--listen", "127.0.0.1:0").refused(t, 1, pid, "--data")
	// The same call twice is what people do: the folder's owner is the reason, not the port.
	call(t, "up", "--data", data, "--listen", address).refused(t, 1, pid, "--data")

	token := call(t, "token", "--sub", "kim", "--role", "customer", "--ttl", "1m", "--data", data)
	if token.code != 0 {
		t.Fatal(token)
	}
	me, err := newClient("http://"+address, strings.TrimSpace(token.out)).call(t.Context(), "GET", "/v1/me", "", nil)
	if err != nil || me.status != 200 || !strings.Contains(string(me.body), `"kim"`) {
		t.Errorf("/v1/me with a minted token: %v %d %s", err, me.status, me.body)
	}
	if got := call(t, "doctor", "--data", data, "--limit", "15s", "--full"); got.code != 0 || !strings.Contains(got.out, "each in its place") {
		t.Errorf("doctor --full: exit %d\n%s%s", got.code, got.out, got.err)
	}
	for _, output := range []string{"table", "json"} {
		if got := call(t, "doctor", "--data", data, "--limit", "15s", "--output", output); got.code != 0 || !strings.Contains(got.out, "projection reservations") {
			t.Errorf("doctor: exit %d\n%s%s", got.code, got.out, got.err)
		}
	}
	for _, args := range [][]string{{"list"}, {"list", "-v"}, {"list", "-o", "json"}} {
		if got := call(t, append(append([]string{"projections"}, args...), "--data", data)...); got.code != 0 || !strings.Contains(got.out, "reservations") || !strings.Contains(got.out, "well") {
			t.Errorf("projections %v: exit %d\n%s%s", args, got.code, got.out, got.err)
		}
	}
	if got := call(t, "projections", "parked", "reservations", "--data", data, "-o", "json"); got.code != 0 || got.out != "[]\n" {
		t.Errorf("projections parked: exit %d\n%s%s", got.code, got.out, got.err)
	}
	if got := call(t, "projections", "retry", "reservations", "--data", data); got.code != 0 || !strings.Contains(got.out, "0 keys") {
		t.Errorf("projections retry: exit %d\n%s%s", got.code, got.out, got.err)
	}
	call(t, "projections", "retry", "reservations", "kim", "--data", data).refused(t, 1, "kim", "not parked")
	call(t, "projections", "parked", "dreams", "--data", data).refused(t, 1, "dreams")
	if got := call(t, "demo", "--data", data, "--url", "http://"+address); got.code != 0 {
		t.Errorf("demo: exit %d\n%s%s", got.code, got.out, got.err)
	}
	token = call(t, "token", "--sub", "ops", "--role", "admin", "--data", data)
	asked, err := newClient("http://"+address, strings.TrimSpace(token.out)).call(t.Context(), "POST", "/v1/admin/projections/slots/parked/retry", "", map[string]string{"cause": "none"})
	if err != nil || asked.status != 202 {
		t.Errorf("retry over HTTP: %v %d %s", err, asked.status, asked.body)
	}
	if code := p.Stop(t); code != 0 {
		t.Errorf("stopped with exit code %d", code)
	}
	events, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(data, eventsName)})
	if err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string][]string{
		"admin-admin-ops": {"retry-parked-by-cause slots: none"},
		"admin-system-cli." + machineUser(): {
			"list-projections ", "list-projections ", "list-projections ", "list-parked reservations",
			"retry-parked-by-cause reservations: ", "retry-parked reservations/kim", "list-parked dreams",
		},
	} {
		if got := callsOf(t, events, stream); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", stream, got, want)
		}
	}
	if err := events.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p = harness.Start(t, nil, "up", "--data", data, "--listen", address)
	p.Ready(t, "http://"+address)
	t.Logf("ready %v after exec, following a clean stop", time.Since(began))
}
