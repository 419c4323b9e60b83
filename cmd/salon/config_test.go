package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// settingsDir makes a directory of settings.
func settingsDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSettingsComeFromFlagEnvironmentDirectoryAndDefaultInThisOrder(t *testing.T) {
	dir := settingsDir(t, map[string]string{
		"events": "postgres://salon:hidden@from-directory/salon\n", "reads": "mysql://salon:hidden@from-directory/salon", "redis": "redis://:hidden@from-directory/0",
		"master-key": "c2VjcmV0", "rate-limit": "7", "cors-origins": "https://a.example,https://b.example",
	})
	t.Setenv("SALON_SETTINGS", dir)
	t.Setenv("SALON_EVENTS", "postgres://salon:hidden@from-environment/salon")
	t.Setenv("SALON_READS", "mysql://salon:hidden@from-environment/salon")
	got := call(t, "config", "--events", "postgres://salon:hidden@from-flag/salon", "-o", "json")
	if got.code != 0 {
		t.Fatal(got)
	}
	var all []setting
	if err := json.Unmarshal([]byte(got.out), &all); err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	for _, want := range []setting{
		{"events", "postgres://salon:***@from-flag/salon", "flag"},
		{"reads", "mysql://salon:***@from-environment/salon", "environment"},
		{"redis", "redis://:***@from-directory/0", file("redis")},
		{"rate-limit", "7", file("rate-limit")},
		{"cors-origins", "https://a.example,https://b.example", file("cors-origins")},
		{"master-key-file", file("master-key"), file("master-key")},
		{"partitions", "8", "default"},
		{"auth-issuer", "", "default"},
		{"settings", dir, "environment"},
	} {
		if !slices.Contains(all, want) {
			t.Errorf("it does not show %+v:\n%s", want, got.out)
		}
	}
	table := call(t, "config", "--notify-webhook", "https://hooks.example/hidden")
	if table.code != 0 || !strings.Contains(table.out, "SETTING") || !strings.Contains(table.out, "https://hooks.example/***") {
		t.Errorf("exit %d\n%s%s", table.code, table.out, table.err)
	}
	if strings.Contains(got.out+table.out, "hidden") {
		t.Error("it shows a secret")
	}
}

func TestConfigWithRolesSaysWhatServeWouldRefuse(t *testing.T) {
	t.Parallel()
	got := call(t, "config", "commands", "relay", "--events", "postgres://u:hidden@h/db")
	got.refused(t, 2, "--kafka is missing", "--master-key-file is missing", "nobody could sign in")
	if !strings.Contains(got.out, "postgres://u:***@h/db") {
		t.Errorf("it does not show what there is:\n%s", got.out)
	}
	call(t, "config", "readapi", "--events", "postgres://h/db", "--reads", "mysql://h/db", "--redis", "redis+sentinel://h:1,i:2/salon/0", "--reads-replica", "redis://h/0").refused(t, 2, "--reads-replica has to start with mysql:")
	call(t, "config", "readapi", "--redis", "redis+sentinel://h:1").refused(t, 2, "--redis has to name the master")
}

func TestASettingThatIsNoneIsRefused(t *testing.T) {
	dir := settingsDir(t, map[string]string{"kafak": "hidden:9092"})
	for _, verb := range [][]string{{"serve", "relay"}, {"config"}, {"migrate", "up"}, {"topics", "check"}} {
		call(t, append(verb, "--settings", dir)...).refused(t, 2, "kafak is no setting; did you mean kafka?")
	}
	call(t, "config", "--settings", filepath.Join(dir, "nowhere")).refused(t, 2, "nowhere")
	t.Setenv("SALON_KAFKAS", "hidden:9092")
	t.Setenv("SALON_TEST_KAFKAS", "hidden:9092")
	got := call(t, "config")
	got.refused(t, 2, "SALON_KAFKAS is no setting; did you mean SALON_KAFKA?")
	if strings.Contains(got.err, "hidden") || strings.Contains(got.err, "SALON_TEST") {
		t.Errorf("it says\n%s", got.err)
	}
	if got := call(t, "--help"); got.code != 0 {
		t.Errorf("--help: exit %d\n%s", got.code, got.err)
	}
}
