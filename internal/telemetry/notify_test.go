package telemetry

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// told runs deploy/notify, which must never fail a change nor show the address.
func told(t *testing.T, address string, args ...string) (code int, said string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "webhook")
	if err := os.WriteFile(file, []byte(address+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "../../deploy/notify", append([]string{"--webhook-file", file}, args...)...)
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		t.Fatal(err)
	}
	if address != "" && strings.Contains(string(out), address) {
		t.Errorf("it shows the address: %s", out)
	}
	return c.ProcessState.ExitCode(), string(out)
}

func TestAChangeIsTold(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	bodies := make(chan []byte, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		// What stands on the command line is everybody's to read.
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, l := range lines {
			if c, _ := os.ReadFile(l); strings.Contains(string(c), "curl\x00") && strings.Contains(string(c), r.Host) {
				t.Errorf("the list of processes has the address: %q", c)
			}
		}
		if calls.Add(1) == 1 {
			w.WriteHeader(http.StatusBadGateway) // the first is to come again
			return
		}
		bodies <- b
		w.WriteHeader(http.StatusNoContent)
	}))
	defer s.Close()
	text := `"quoted" \ back` + "\n" + `and @everyone, 콩이 ` + "\x01" + strings.Repeat("long ", 500)
	if code, said := told(t, s.URL+"/api/webhooks/1/secret?wait=true", "--kind", "success", "--version", "v1.2.3", text); code != 0 || said != "" {
		t.Fatalf("exit %d, said %s", code, said)
	}
	var got struct {
		Content, Kind, Version, At string
		Mentions                   struct{ Parse []string } `json:"allowed_mentions"`
	}
	if err := json.Unmarshal(<-bodies, &got); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got.Content, "✅ success v1.2.3: \"quoted\" \\ back\nand @everyone, 콩이 long") || len(got.Content) > 2000 {
		t.Errorf("said %d bytes: %q", len(got.Content), got.Content)
	}
	if _, err := time.Parse(time.RFC3339, got.At); err != nil || got.Kind != "success" || got.Version != "v1.2.3" || got.Mentions.Parse == nil || len(got.Mentions.Parse) > 0 {
		t.Errorf("beside it: %+v (%v)", got, err)
	}
}

func TestAChangeGoesOnWhateverTheWebhookDoes(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-gone }))
	t.Cleanup(func() { close(gone); hangs.Close() })
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	t.Cleanup(refuses.Close)
	for _, c := range []struct {
		name, address string
		args          []string
		code          int
		says          string
	}{
		{"it hangs", hangs.URL, []string{"--kind", "start", "hello"}, 0, "did not take the message of kind start"},
		{"it refuses", refuses.URL, []string{"--kind", "failure", "hello"}, 0, "did not take"},
		{"nobody is there", "http://127.0.0.1:1/secret", []string{"--kind", "rollback", "hello"}, 0, "did not take"},
		{"it is no address", "secret\" \noutput = \"/etc/passwd", []string{"--kind", "start", "hello"}, 0, "holds no http:// or https:// address"},
		{"it is a file's", "file:///etc/passwd", []string{"--kind", "start", "hello"}, 0, "holds no http:// or https:// address"},
		{"there is none", "", []string{"--kind", "start", "hello"}, 0, ""},
		{"of no kind", refuses.URL, []string{"hello"}, 2, "--kind is"},
		{"of another kind", refuses.URL, []string{"--kind", "party", "hello"}, 2, "--kind is"},
		{"without a text", refuses.URL, []string{"--kind", "start"}, 2, "nothing to say"},
		{"with another flag", refuses.URL, []string{"--kind", "start", "--loud", "x"}, 2, "--loud"},
		{"with half a flag", refuses.URL, []string{"--kind"}, 2, "usage"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			code, said := told(t, c.address, c.args...)
			if code != c.code || !strings.Contains(said, c.says) || c.says == "" && strings.TrimSpace(said) != "" {
				t.Errorf("exit %d, said %q", code, said)
			}
			if took := time.Since(began); took > 60*time.Second { // 20 s, on a machine that has time
				t.Errorf("it took %v", took)
			}
		})
	}
}
