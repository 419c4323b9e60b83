package commands

import (
	"encoding/json"
	"testing"
	"time"
)

func TestRequestsOfOneMeaningHaveOneSpelling(t *testing.T) {
	t.Parallel()
	type inner struct {
		Size string   `json:"size"`
		Tags []string `json:"tags,omitempty"`
	}
	type request struct {
		Zebra int       `json:"zebra"`
		Start time.Time `json:"start"`
		Name  string    `json:"name,omitempty"`
		Dogs  []inner   `json:"dogs"`
		Ptr   *int      `json:"ptr,omitempty"`
		Flag  bool      `json:"flag"`
		inner
	}
	const want = `{"dogs":[{"size":"small"},{}],"name":"콩\"\\\u000a","start":"2026-11-24T01:00:00Z","zebra":-3}`
	for _, body := range []string{
		`{"zebra":-3,"start":"2026-11-24T10:00:00+09:00","name":"콩\"\\\n","dogs":[{"size":"small"},{}]}`,
		`{"dogs":[{"tags":[],"size":"small"},{"size":""}],"flag":false,"start":"2026-11-24T01:00:00.000Z","name":"\ucf69\"\\\u000A","zebra":-3,"ptr":null}`,
	} {
		var r request
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			t.Fatal(err)
		}
		if got := string(canonical(r)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	zero := 0
	for _, other := range []request{{}, {Ptr: &zero}, {Flag: true}, {Dogs: []inner{{}}}, {Dogs: []inner{{}, {}}}, {inner: inner{Size: "x"}}} {
		if string(canonical(other)) == want {
			t.Errorf("%+v is spelled the same", other)
		}
	}
	if a, b := string(canonical(request{Ptr: &zero})), string(canonical(request{})); a == b {
		t.Errorf("a pointer to zero says nothing: %s", a)
	}
}
