package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/readapi/live"
)

func TestTheCommittedDocumentsAreTheCodes(t *testing.T) {
	t.Parallel()
	for file, document := range map[string]any{"../../docs/openapi.json": document(), "../../docs/asyncapi.json": live.AsyncAPI("v1")} {
		committed, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var now bytes.Buffer
		if err := writeJSON(&now, document); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(committed), now.String()); diff != "" {
			t.Errorf("%s is stale: run `make generate` (-committed +now):\n%s", file, diff)
		}
	}
}
