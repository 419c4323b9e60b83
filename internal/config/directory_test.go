package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var flags = []string{"events", "events-file", "kafka", "reads", "listen", "master-key-file", "rate-limit"}

// directory makes one of these files.
func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestADirectoryHoldsOneFileForEachSetting(t *testing.T) {
	t.Parallel()
	dir := directory(t, map[string]string{
		"events": "postgres://u:p@h/db\n", "SALON_RATE_LIMIT": " 7 ", "master-key": "c2VjcmV0", "..data_tmp": "x", ".hidden": "y",
	})
	// As Kubernetes mounts: the names are links into a hidden folder that is swapped as a whole.
	if err := os.Mkdir(filepath.Join(dir, "..2026"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "..2026", "kafka"), []byte("h:9092"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join("..2026", "kafka"), filepath.Join(dir, "kafka")); err != nil {
		t.Fatal(err)
	}
	found, err := Directory(dir, flags)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	want := map[string]Found{
		"events": {"postgres://u:p@h/db", file("events")}, "rate-limit": {"7", file("SALON_RATE_LIMIT")},
		"master-key-file": {file("master-key"), file("master-key")}, "kafka": {"h:9092", file("kafka")},
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestADirectoryIsRefusedWithEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	dir := directory(t, map[string]string{
		"evnts": "postgres://u:hidden@h/db", "SALON_KAFAK": "hidden", "quite-another-thing": "hidden", "reads": " \n", "listen": strings.Repeat("x", 70_000),
		"kafka": "hidden", "SALON_KAFKA": "hidden", "master-key": "hidden", "master-key-file": "/hidden",
	})
	if err := os.Mkdir(filepath.Join(dir, "rate-limit"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Directory(dir, flags)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, says := range []string{
		"evnts is no setting; did you mean events?", "SALON_KAFAK is no setting; did you mean SALON_KAFKA?", "quite-another-thing is no setting; salon config lists all",
		"reads is empty", "listen is no file of a setting's size", "rate-limit is no file", "SALON_KAFKA and", "master-key-file are the same setting",
	} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("it does not say %q:\n%v", says, err)
		}
	}
	if strings.Contains(err.Error(), "hidden") {
		t.Errorf("it repeats a value:\n%v", err)
	}
	if _, err := Directory(filepath.Join(dir, "nowhere"), flags); err == nil || !strings.Contains(err.Error(), "--settings") {
		t.Errorf("a directory that is not there: %v", err)
	}
}

func TestAVariableThatIsNoSettingIsRefused(t *testing.T) {
	t.Parallel()
	fine := []string{
		"SALON_EVENTS=x", "SALON_RATE_LIMIT=", "PATH=/bin", "SALON=1", "SALON_TEST_MYSQL=x", "SALON_SERVICES_LOCAL=x", "SALON_DEPLOY_WEBHOOK=x", "SALON_IMAGE=x",
		"SALON_PORT=tcp://10.0.0.1:80", "SALON_PORT_80_TCP_ADDR=10.0.0.1", "SALON_SERVICE_HOST=10.0.0.1",
	}
	if err := Unknown(fine, flags); err != nil {
		t.Error(err)
	}
	err := Unknown(append(fine, "SALON_EVENTS_FIEL=hidden", "SALON_WHATEVER_ELSE=hidden"), flags)
	if err == nil || !strings.Contains(err.Error(), "SALON_EVENTS_FIEL is no setting; did you mean SALON_EVENTS_FILE?") || !strings.Contains(err.Error(), "SALON_WHATEVER_ELSE is no setting") ||
		strings.Contains(err.Error(), "hidden") {
		t.Error(err)
	}
}

func TestAMaskedURLShowsWhereAndNotItsSecret(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"":                                "",
		"127.0.0.1:8080":                  "127.0.0.1:8080",
		"sqlite:/var/lib/salon/events.db": "sqlite:/var/lib/salon/events.db",
		"postgres://salon@a:1,b:2/db?sslmode=off":                       "postgres://salon@a:1,b:2/db?sslmode=off",
		"mysql://salon:hidden@h:3306/salon":                             "mysql://salon:***@h:3306/salon",
		"redis://:hidden@h/0":                                           "redis://:***@h/0",
		"redis+sentinel://:hidden@a:1,b:2/m/0?sentinel_password=hidden": "redis+sentinel://:***@a:1,b:2/m/0?sentinel_password=***",
		"postgres://h/db?user=salon&password=hidden":                    "postgres://h/db?user=salon&password=***",
		"host=h password=hidden":                                        "***",
	} {
		if got := Masked("events", value); got != want {
			t.Errorf("%s: %s, want %s", value, got, want)
		}
	}
	if got := Masked("notify-webhook", "https://discord.example/api/webhooks/1/hidden?wait=true"); got != "https://discord.example/***" {
		t.Error(got)
	}
	rapid.Check(t, func(t *rapid.T) {
		secret := "s3cr3t" + rapid.StringMatching(`[a-z:/?#&=@%]{0,12}`).Draw(t, "secret") + "s3cr3t"
		host := rapid.SampledFrom([]string{"h", "h:1", "h:1,i:2", "user@h"}).Draw(t, "host")
		for _, value := range []string{"mysql://u:" + secret + "@" + host + "/db", "redis://:" + secret + "@" + host, "postgres://u:" + secret + "@" + host + "/db?a=b"} {
			if got := Masked("reads", value); strings.Contains(got, "s3cr3t") {
				t.Errorf("%s shows a secret: %s", value, got)
			}
		}
	})
}
