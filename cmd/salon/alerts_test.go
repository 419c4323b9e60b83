package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/dangdangsalon/salon/internal/harness"
)

// TestAnAlertReachesTheWebhook kills a node that a real Prometheus watches with our rules, and reads what a real Alertmanager
// with our routes sends; then it starts the node again. Only times are shortened.
func TestAnAlertReachesTheWebhook(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	deploy, dir := "../../deploy", t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	messages, pings := make(chan string, 1000), make(chan string, 1000)
	outside := http.NewServeMux()
	for path, to := range map[string]chan string{"POST /webhook": messages, "POST /deadman": pings} {
		outside.HandleFunc(path, func(_ http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			to <- string(b)
		})
	}
	outside.HandleFunc("GET /metrics", func(http.ResponseWriter, *http.Request) {}) // of the other node, which stays up
	receiver := httptest.NewServer(outside)
	t.Cleanup(receiver.Close)

	// Alertmanager, by our configuration.
	write("webhook", []byte(receiver.URL+"/webhook\n"))
	write("deadman", []byte(receiver.URL+"/deadman\n"))
	older := exec.CommandContext(t.Context(), deploy+"/alertmanager/older.sh", deploy+"/alertmanager/alertmanager.yml")
	older.Env = append(os.Environ(), "SECRETS="+dir)
	routes, err := older.Output()
	if err != nil {
		t.Fatal(err)
	}
	manager := harness.Address(t)
	harness.StartCommand(t, debian(t, "prometheus-alertmanager",
		"--config.file="+write("alertmanager.yml", regexp.MustCompile(`(group_wait|group_interval): \w+`).ReplaceAll(routes, []byte("$1: 1s"))),
		"--web.listen-address="+manager, "--cluster.listen-address=", "--storage.path="+filepath.Join(dir, "alertmanager")))

	// A node, and Prometheus by our configuration.
	address, node := harness.Address(t), harness.Address(t)
	start := func() *harness.Process {
		p := harness.Start(t, nil, "up", "--data", filepath.Join(dir, "data"), "--listen", address, "--metrics-listen", node)
		p.Ready(t, "http://"+address)
		return p
	}
	salon := start()
	var c map[string]any
	b, err := os.ReadFile(deploy + "/prometheus/prometheus.yml")
	if err == nil {
		err = yaml.Unmarshal(b, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	prometheus := harness.Address(t)
	global := c["global"].(map[string]any)
	global["scrape_interval"], global["scrape_timeout"], global["evaluation_interval"] = "500ms", "500ms", "500ms"
	targets := map[string][]string{
		"salon": {node, strings.TrimPrefix(receiver.URL, "http://")}, "prometheus": {prometheus}, "alertmanager": {manager},
	}
	for _, job := range c["scrape_configs"].([]any) {
		job := job.(map[string]any)
		job["static_configs"] = []any{map[string]any{"targets": targets[job["job_name"].(string)], "labels": map[string]string{"role": "live"}}}
	}
	c["alerting"] = map[string]any{"alertmanagers": []any{map[string]any{"static_configs": []any{map[string]any{"targets": []string{manager}}}}}}
	rules, err := filepath.Glob(deploy + "/prometheus/rules/*.yml")
	if err != nil || len(rules) == 0 {
		t.Fatal(rules, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "rules"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range rules {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		write("rules/"+filepath.Base(file), regexp.MustCompile(`for: \w+`).ReplaceAll(b, []byte("for: 1s")))
	}
	if b, err = yaml.Marshal(c); err != nil {
		t.Fatal(err)
	}
	harness.StartCommand(t, debian(t, "prometheus", "--config.file="+write("prometheus.yml", b), "--rules.alert.resend-delay=1s",
		"--web.listen-address="+prometheus, "--storage.tsdb.path="+filepath.Join(dir, "prometheus")))

	// All is well: silence would be noticed. What our rules take from others is there.
	comes(t, pings, `"alertname":"Deadman"`)
	has := func(q string) {
		t.Helper()
		wait(t, 2*time.Minute, func() string {
			answer := get(t, "http://"+prometheus+"/api/v1/query?query="+url.QueryEscape(q))
			if strings.Contains(answer, `"success"`) && !strings.Contains(answer, `"result":[]`) {
				return ""
			}
			return q + ": " + answer
		})
	}
	for _, q := range []string{"sum(up) == 4", `ALERTS{alertname="Deadman"}`, "alertmanager_notifications_failed_total", "prometheus_rule_evaluation_failures_total"} {
		has(q)
	}
	for len(messages) > 0 {
		if m := <-messages; strings.Contains(m, "NodeDown") {
			t.Fatalf("a node that is up is called down: %s", m)
		}
	}

	salon.Kill()
	says := func(m string, all ...string) {
		t.Helper()
		var discord struct {
			Embeds []struct{ Title, Description string }
		}
		if err := json.Unmarshal([]byte(m), &discord); err != nil || len(discord.Embeds) != 1 {
			t.Fatalf("not in Discord's format: %s (%v)", m, err)
		}
		got := discord.Embeds[0]
		for _, want := range all {
			if !strings.Contains(got.Title+got.Description, want) {
				t.Errorf("the message does not say %q: %s", want, m)
			}
		}
	}
	says(comes(t, messages, "NodeDown"), "FIRING ticket: NodeDown (1)", node+" does not answer (up is 0)", "docs/runbook.md#nodes")
	has(`alertmanager_notifications_total{integration="discord"} > 0`) // by this label the rule NotDelivered knows it
	start()
	says(comes(t, messages, "RESOLVED ticket: NodeDown"), node)
}

// debian is a program of Debian's packages prometheus and prometheus-alertmanager.
func debian(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: deploy/tools/monitoring.sh installs it", err)
	}
	return exec.Command(path, args...)
}

// comes takes what comes until something says what is wanted.
func comes(t *testing.T, from <-chan string, says string) string {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		select {
		case m := <-from:
			if strings.Contains(m, says) {
				return m
			}
		case <-deadline:
			t.Fatalf("nothing came that says %q", says)
		}
	}
}
