package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"
)

const repository = "../.."

func composeFile(t *testing.T) types.ConfigDetails {
	t.Helper()
	root, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	return types.ConfigDetails{WorkingDir: root, ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(root, "docker-compose.yml")}}, Environment: types.Mapping{}}
}

// loadCompose reads docker-compose.yml by Compose's own library, which refuses what is misspelt and names that are nowhere.
func loadCompose(t *testing.T) *types.Project {
	t.Helper()
	p, err := loader.LoadWithContext(t.Context(), composeFile(t), func(o *loader.Options) {
		o.SetProjectName("salon", true)
		o.Profiles = []string{"*"}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Services) < 30 {
		t.Fatalf("only %d services", len(p.Services))
	}
	return p
}

func readRepository(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestEveryContainerIsClosed holds each service to what a review would look for each time.
func TestEveryContainerIsClosed(t *testing.T) {
	t.Parallel()
	exactImage := regexp.MustCompile(`^[a-z0-9/-]+:(v?[0-9]+\.[0-9]+(\.[0-9]+)?|dev)(@sha256:[0-9a-f]{64})?$`)
	someUser := regexp.MustCompile(`^[1-9][0-9]*:[0-9]+$`)
	secret := regexp.MustCompile(`PASSWORD|SECRET|TOKEN|_KEY`)
	p := loadCompose(t)
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		s := p.Services[name]
		must := func(ok bool, what string) {
			if !ok {
				t.Errorf("%s %s", name, what)
			}
		}
		must(exactImage.MatchString(s.Image), "has an image without an exact version: "+s.Image)
		if name == "collector" { // Docker's files of logs are root's alone, and its image has nothing to ask it with
			must(s.User == "0:0" && len(s.Ports) == 0, "can be reached while it runs as root")
			must(s.HealthCheck == nil, "would keep `docker compose up --wait` from ending: a check that is disabled counts as one that never succeeds")
			for _, v := range s.Volumes {
				must(v.ReadOnly || v.Source == "collector", "can write "+v.Source)
			}
			must(strings.Contains(readRepository(t, "deploy/prometheus/prometheus.yml"), `"collector:8888"`), "is asked by nobody how it is")
		} else {
			must(someUser.MatchString(s.User), "runs as root, or as a name that an image gives a meaning: "+s.User)
			must(s.HealthCheck != nil && s.HealthCheck.Disable == (s.Restart == "no") && (s.HealthCheck.Disable || len(s.HealthCheck.Test) > 0),
				"ends, or else can be asked how it is")
		}
		must(s.ReadOnly, "can write its root")
		must(!s.Privileged && slices.Equal(s.CapDrop, []string{"ALL"}) && len(s.CapAdd) == 0, "keeps capabilities")
		must(slices.Contains(s.SecurityOpt, "no-new-privileges:true"), "may get new privileges")
		must(s.MemLimit > 0 && s.CPUS > 0, "has no limits")
		must(len(s.Profiles) > 0, "is in no profile")
		must(s.HealthCheck == nil || s.HealthCheck.StartInterval == nil, "wants a start_interval, which Docker has from version 25 on only")
		for _, port := range s.Ports {
			must(port.HostIP == "127.0.0.1", "is open to other machines at port "+port.Published)
		}
		for variable, value := range s.Environment {
			must(value == nil || *value == "" || !secret.MatchString(variable) || strings.HasSuffix(variable, "_FILE"), "has a secret in its environment: "+variable)
		}
	}
}

// TestEveryNodeOfTheComposeFileIsFound holds the files that name nodes to the nodes that there are.
func TestEveryNodeOfTheComposeFileIsFound(t *testing.T) {
	t.Parallel()
	p := loadCompose(t)
	upstreams, targets := readRepository(t, "deploy/nginx/upstreams.conf"), readRepository(t, "deploy/prometheus/prometheus.yml")
	nginx := p.Services["nginx"]
	nodes := map[string]int{}
	for name, s := range p.Services {
		role := s.Labels["salon.role"]
		if role == "" {
			continue
		}
		nodes[role]++
		if name != role+"-"+s.Labels["salon.zone"] || !slices.Equal(s.Command, types.ShellCommand{"serve", role}) {
			t.Errorf("%s is labelled as %s of zone %s, and runs %v", name, role, s.Labels["salon.zone"], s.Command)
		}
		if !strings.Contains(targets, "- "+name+":9090\n") {
			t.Errorf("Prometheus does not ask %s", name)
		}
		front := s.Networks["front"]
		if front == nil {
			continue
		}
		if hosts := nginx.ExtraHosts[name]; !slices.Equal(hosts, []string{front.Ipv4Address}) {
			t.Errorf("Nginx knows %s by %v, and it is at %s", name, hosts, front.Ipv4Address)
		}
		if !strings.Contains(upstreams, " "+name+":8080 ") {
			t.Errorf("Nginx sends nothing to %s", name)
		}
		if _, waits := nginx.DependsOn[name]; !waits {
			t.Errorf("Nginx does not wait for %s", name)
		}
	}
	if want := map[string]int{"commands": 2, "readapi": 2, "live": 2, "admin": 2, "relay": 2, "projector": 2, "reactor": 2}; !maps.Equal(nodes, want) {
		t.Errorf("the nodes are %v, want %v", nodes, want)
	}
	if want := p.Services["commands-a"].Environment["SALON_TRUST_PROXY"]; want == nil || *want != nginx.Networks["front"].Ipv4Address+"/32" {
		t.Errorf("nodes trust %v, and Nginx is at %s", want, nginx.Networks["front"].Ipv4Address)
	}
}

// TestTheSettingsOfTheComposeFileAreKnown: of the containers to the binary that runs there, and those that the file takes from a
// shell to the binary that is called in that shell.
func TestTheSettingsOfTheComposeFileAreKnown(t *testing.T) {
	t.Setenv("SALON_DATA", t.TempDir())
	settings := map[string]string{}
	for _, s := range loadCompose(t).Services {
		for name, value := range s.Environment {
			settings[name] = *value
		}
	}
	model, err := loader.LoadModelWithContext(t.Context(), composeFile(t), func(o *loader.Options) {
		o.SetProjectName("salon", true)
		o.SkipInterpolation = true
		o.SkipValidation = true
		o.SkipConsistencyCheck = true
		o.SkipNormalization = true
		o.Profiles = []string{"*"}
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range template.ExtractVariables(model, template.DefaultPattern) {
		settings[name] = v.DefaultValue
	}
	maps.DeleteFunc(settings, func(name, _ string) bool { return !strings.HasPrefix(name, "SALON_") })
	for name, value := range settings {
		t.Setenv(name, value)
	}
	if len(settings) < 20 {
		t.Fatalf("only %d settings were found", len(settings))
	}
	if got := call(t, "config"); got.code != 0 {
		t.Errorf("exit %d\n%s", got.code, got.err)
	}
}

// TestSecretsAreMadeForEachMount: deploy/secrets.sh makes every file that is mounted.
func TestSecretsAreMadeForEachMount(t *testing.T) {
	t.Parallel()
	script := readRepository(t, "deploy/secrets.sh")
	for name, secret := range loadCompose(t).Secrets {
		if file := filepath.Base(secret.File); !regexp.MustCompile(`\b` + regexp.QuoteMeta(file) + `\b`).MatchString(script) {
			t.Errorf("nobody makes %s, the file of %s", file, name)
		}
	}
}
