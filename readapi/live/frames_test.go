package live

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
)

func TestFramesOfAClientAreReadStrictly(t *testing.T) {
	t.Parallel()
	post := &Post{Type: "post", RoomID: "kim.0", ClientMessageID: "1", Text: "멍멍 🐶"}
	for _, c := range []struct {
		what, frame string
		want        any // nil: refused
	}{
		{"a subscription", `{"type":"subscribe","room_id":"kim.0","after_seq":7}`, &Subscribe{"subscribe", "kim.0", 7}},
		{"one from the beginning", ` {"room_id":"kim.0","type":"subscribe"} `, &Subscribe{"subscribe", "kim.0", 0}},
		{"a post", `{"type":"post","room_id":"kim.0","client_message_id":"1","text":"멍멍 🐶"}`, post},
		{"one that is spelled otherwise", `{"type":"\u0070ost","room_id":"kim.0","client_message_id":"1","text":"멍멍 \ud83d\udc36"}`, post},
		{"a mark", `{"type":"read","room_id":"kim.0","seq":18446744073709551615}`, &Read{"read", "kim.0", 1<<64 - 1}},
		{"a ping", `{"type":"ping"}`, &Ping{"ping"}},

		{"nothing", ``, nil},
		{"blanks", `  `, nil},
		{"no object", `"subscribe"`, nil},
		{"null", `null`, nil},
		{"a list", `[{"type":"ping"}]`, nil},
		{"two objects", `{"type":"ping"}{"type":"ping"}`, nil},
		{"a piece of one", `{"type":"ping"`, nil},
		{"no type", `{"room_id":"kim.0"}`, nil},
		{"an empty type", `{"type":""}`, nil},
		{"a type of the server", `{"type":"message","room_id":"kim.0"}`, nil},
		{"a type in capitals", `{"type":"PING"}`, nil},
		{"a type that is no text", `{"type":7}`, nil},
		{"a type that is an object", `{"type":{"type":"ping"}}`, nil},
		{"two types", `{"type":"ping","type":"post"}`, nil},
		{"a type in two spellings", `{"type":"ping","TYPE":"post"}`, nil},
		{"a member in capitals", `{"type":"subscribe","Room_ID":"kim.0"}`, nil},
		{"a member twice", `{"type":"subscribe","room_id":"kim.0","room_id":"lee.0"}`, nil},
		{"a member twice, once escaped", `{"type":"subscribe","room_id":"kim.0","room\u005fid":"lee.0"}`, nil},
		{"a member of another frame", `{"type":"ping","room_id":"kim.0"}`, nil},
		{"an unknown member", `{"type":"post","room_id":"kim.0","client_message_id":"1","text":"x","sender":{"id":"lee"}}`, nil},
		{"a negative seq", `{"type":"subscribe","room_id":"kim.0","after_seq":-1}`, nil},
		{"half a seq", `{"type":"subscribe","room_id":"kim.0","after_seq":0.5}`, nil},
		{"a seq beyond 64 bits", `{"type":"subscribe","room_id":"kim.0","after_seq":18446744073709551616}`, nil},
		{"a seq in quotes", `{"type":"subscribe","room_id":"kim.0","after_seq":"1"}`, nil},
		{"a room that is a list", `{"type":"subscribe","room_id":["kim.0","lee.0"]}`, nil},
		{"broken UTF-8", "{\"type\":\"post\",\"room_id\":\"kim.0\",\"client_message_id\":\"1\",\"text\":\"\xff\xfe\"}", nil},
		{"half a surrogate", `{"type":"post","room_id":"kim.0","client_message_id":"1","text":"\ud83d"}`, nil},
		{"a text that breaks off", `{"type":"post","text":"` + "\x00", nil},
		{"a comment", `{"type":"ping"/* hello */}`, nil},
		{"deep nesting", strings.Repeat(`{"type":`, 5000) + strings.Repeat(`}`, 5000), nil},
	} {
		got, err := parse([]byte(c.frame))
		if (err == nil) != (c.want != nil) {
			t.Errorf("%s: %+v, %v", c.what, got, err)
		} else if diff := cmp.Diff(c.want, got); c.want != nil && diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
		if err != nil && strings.Contains(err.Error(), "kim") {
			t.Errorf("%s: the refusal repeats what was sent: %v", c.what, err)
		}
	}
}

// A text of the longest length, spelled as clumsily as JSON allows, is a frame that is read.
func TestTheLongestTextFits(t *testing.T) {
	t.Parallel()
	frame := fmt.Sprintf(`{"type":"post","room_id":"%s.%s","client_message_id":"%s","text":"%s"}`,
		strings.Repeat("k", 40), strings.Repeat("0", 26), strings.Repeat("!", 64), strings.Repeat(`\ud83d\udc36`, 2000))
	if len(frame) > maxFrame {
		t.Errorf("%d bytes are more than %d", len(frame), maxFrame)
	}
	if _, err := parse([]byte(frame)); err != nil {
		t.Error(err)
	}
}

// FuzzParse: whatever a client sends is refused, or is a frame that means the same when it is written again.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"type":"subscribe","room_id":"kim.0","after_seq":7}`, `{"type":"post","room_id":"kim.0","client_message_id":"1","image_url":"https://x"}`,
		`{"type":"read","room_id":"r","seq":1}`, `{"type":"typing","room_id":"r"}`, `{"type":"unsubscribe","room_id":"r"}`, `{"type":"ping"}`, `{}`, `[]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		got, err := parse(frame)
		if err != nil {
			return
		}
		b, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(b)
		if err != nil {
			t.Fatalf("%s is read, and %s is not: %v", frame, b, err)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Fatal(diff)
		}
		if _, err := ParseServer(frame); err != nil { // a client must not stumble over what the server may learn to say
			t.Logf("a client refuses %s: %v", frame, err)
		}
	})
}
