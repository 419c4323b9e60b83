package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheCommittedDocumentIsTheCodes(t *testing.T) {
	t.Parallel()
	committed, err := os.ReadFile("../../docs/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var now bytes.Buffer
	if err := writeJSON(&now, document()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(committed), now.String()); diff != "" {
		t.Errorf("docs/openapi.json is stale: run `make generate` (-committed +now):\n%s", diff)
	}
}
