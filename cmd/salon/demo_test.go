package main

import (
	"strings"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/harness"
)

// TestTwoPeopleTalkWhileANodeDies plays the demo over two nodes of a system on real servers, and kills one of them in the
// middle of the talk.
func TestTwoPeopleTalkWhileANodeDies(t *testing.T) {
	harness.NeedsServers(t)
	c := realCluster(t)
	c.prepare(t)
	stays, dies := c.member(t, "stays", "commands", "readapi", "relay", "projector", "live"), c.member(t, "dies", "live")
	for _, m := range []*member{stays, dies} {
		m.start(t)
	}
	for _, m := range []*member{stays, dies} {
		m.ready(t)
	}
	demo := harness.Start(t, nil, "demo", "--url", stays.url, "--url", dies.url, "--auth-key-file", c.authFile, "--talk", "5s")
	demo.Await(t, "kill a node now")
	if !strings.Contains(demo.Output(), "one of the groomer's at "+dies.url) {
		t.Error("the groomer is not at the node that dies")
	}
	dies.process.Kill()
	demo.Await(t, "the groomer is back, at "+stays.url)
	demo.Await(t, "each heard by both, once, in one order")
	if code := demo.Wait(t, time.Minute); code != 0 {
		t.Errorf("the demo ended with exit code %d", code)
	}
	stays.end(t, false)
}
