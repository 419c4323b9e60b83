package main

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/harness"
)

// The key of tokens is changed by the book, on nodes that restart one by one: at no time is a token refused that was to be good.
func TestTheRunbookRotatesTheKeyOfTokens(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	c := realCluster(t)
	c.prepare(t)
	nodes := []*member{c.member(t, "a", "readapi"), c.member(t, "b", "readapi")}
	for _, m := range nodes {
		m.start(t)
	}
	for _, m := range nodes {
		m.ready(t)
	}
	kim := domain.Actor{ID: "kim", Role: domain.Customer}
	signed := func(key *auth.LocalKey) string {
		t.Helper()
		token, err := key.Mint(kim.ID, string(kim.Role), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	answers := func(what, url, token string, status int) {
		t.Helper()
		a, err := newClient(url, token).call(t.Context(), http.MethodGet, "/v1/reservations", "", nil)
		if err != nil || a.status != status {
			t.Errorf("%s: %v %d %s, want %d", what, err, a.status, a.body, status)
		}
	}

	dir := filepath.Join(t.TempDir(), "new")
	rb := newRunbook(t)
	rb.run("auth-key", "DIR="+dir)
	changed, err := auth.LoadKeyFile(filepath.Join(dir, authKeyName))
	if err != nil {
		t.Fatal(err)
	}
	before, after := signed(c.key), signed(changed)
	answers("before it is given", nodes[0].url, after, http.StatusUnauthorized)
	plain := append([]string{}, nodes[0].args...)
	for _, m := range nodes {
		m.end(t, false)
		m.args = append(m.args, "--auth-key-also", filepath.Join(dir, authKeyName))
		m.start(t)
		m.ready(t)
		for _, n := range nodes {
			answers("old, while "+m.name+" was restarted, at "+n.name, n.url, before, http.StatusOK)
		}
	}
	for _, m := range nodes {
		rb.run("auth-key-new", "DIR="+dir, "URL="+m.url)
		answers("old, beside the new one", m.url, before, http.StatusOK)
	}
	m := nodes[0]
	m.end(t, false)
	m.args = plain
	for i, arg := range m.args {
		if arg == c.authFile {
			m.args[i] = filepath.Join(dir, authKeyName)
		}
	}
	m.start(t)
	m.ready(t)
	answers("new, alone", m.url, after, http.StatusOK)
	answers("old, when it is over", m.url, before, http.StatusUnauthorized)
	for _, m := range nodes {
		m.end(t, false)
	}
}
