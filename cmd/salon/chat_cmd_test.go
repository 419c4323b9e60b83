package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/readapi"
	"github.com/dangdangsalon/salon/readapi/live"
)

// paper is what a chat printed, for who waits for some of it.
type paper struct {
	mu    sync.Mutex
	b     bytes.Buffer
	grown chan struct{}
}

func newPaper() *paper { return &paper{grown: make(chan struct{}, 1)} }

func (p *paper) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.b.Write(b)
	select {
	case p.grown <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (p *paper) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

func (p *paper) await(t *testing.T, text string) {
	t.Helper()
	limit := time.After(time.Minute)
	for !strings.Contains(p.String(), text) {
		select {
		case <-p.grown:
		case <-limit:
			t.Fatalf("it did not print %q:\n%s", text, p)
		}
	}
}

// talker is somebody at a `salon chat` of this process.
type talker struct {
	in       *io.PipeWriter
	out, err *paper
	ended    chan error
}

func talking(t *testing.T, c chatCmd) *talker {
	in, typed := io.Pipe()
	k := &talker{typed, newPaper(), newPaper(), make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		k.ended <- c.talk(ctx, in, &terminal{k.out, k.err})
		in.Close() // whoever still types
	}()
	t.Cleanup(func() {
		cancel()
		typed.Close()
		if t.Failed() {
			t.Logf("%s saw:\n%s\nand was told:\n%s", c.As, k.out, k.err)
		}
	})
	return k
}

func (k *talker) types(t *testing.T, line string) {
	t.Helper()
	if _, err := io.WriteString(k.in, line+"\n"); err != nil {
		t.Fatal(err)
	}
}

func (k *talker) ends(t *testing.T) error {
	t.Helper()
	select {
	case err := <-k.ended:
		return err
	case <-time.After(time.Minute):
		t.Fatalf("it goes on:\n%s\n%s", k.out, k.err)
		return nil
	}
}

// parlour is a `salon up` with a reservation of minji's at kongi, whose room they talk in.
type parlour struct {
	url, data, room string
	as              func(who domain.Actor) chatCmd
}

var (
	kongi = domain.Actor{ID: "kongi", Role: domain.Groomer}
	minji = domain.Actor{ID: "minji", Role: domain.Customer}
)

func newParlour(t *testing.T) parlour {
	t.Helper()
	data, address := filepath.Join(t.TempDir(), "data"), harness.Address(t)
	p := parlour{url: "http://" + address, data: data}
	harness.Start(t, nil, "up", "--data", data, "--listen", address).Ready(t, p.url)
	key, err := auth.LoadKeyFile(filepath.Join(data, authKeyName))
	if err != nil {
		t.Fatal(err)
	}
	p.room = book(t, newTown([]string{p.url}, nil, func(who domain.Actor) string {
		token, err := key.Mint(who.ID, string(who.Role), time.Hour)
		if err != nil {
			t.Error(err)
		}
		return token
	}), p.url, kongi, minji)
	p.as = func(who domain.Actor) chatCmd {
		return chatCmd{Room: p.room, URL: []string{p.url}, As: string(who.Role) + ":" + who.ID, Data: data, Last: 20, Output: "text"}
	}
	return p
}

func TestTwoPeopleTalkFromTheirTerminals(t *testing.T) {
	t.Parallel()
	p := newParlour(t)
	her, him := talking(t, p.as(minji)), talking(t, p.as(kongi))
	her.types(t, "콩이가 낯을 조금 가려요")
	him.out.await(t, " customer minji: 콩이가 낯을 조금 가려요\n")
	her.out.await(t, " you: 콩이가 낯을 조금 가려요\n")
	him.types(t, "천천히 친해질게요 🐶")
	her.out.await(t, " groomer kongi: 천천히 친해질게요 🐶\n")
	him.err.await(t, "-- customer minji has read up to message 2\n")
	him.types(t, "/read")
	him.err.await(t, "-- you have read up to message 2, the other side up to 2\n")
	him.types(t, "/sing")
	him.err.await(t, "/sing is nothing")
	him.types(t, "//sing")
	him.types(t, "\x1b[2Jcleared?")
	her.out.await(t, "you: 콩이가")
	her.out.await(t, " groomer kongi: /sing\n")
	her.out.await(t, " groomer kongi: [2Jcleared?\n")
	him.types(t, strings.Repeat("가", 2001))
	him.err.await(t, "-- not posted (request.invalid:")
	him.in.Close()
	if err := him.ends(t); err == nil || !strings.Contains(err.Error(), "1 messages were not posted") {
		t.Errorf("he ended with %v", err)
	}

	// A script: what it posts is acknowledged when it ends, and what was said before is shown.
	c := exec.Command(harness.Binary(t), "chat", p.room, "--url", p.url, "--as", "customer:minji", "--data", p.data, "--last", "1")
	c.Stdin = strings.NewReader("hi\nand goodbye")
	script := harness.StartCommand(t, c)
	if code := script.Wait(t, time.Minute); code != 0 || !strings.Contains(script.Output(), "kongi: [2Jcleared?\n") || strings.Contains(script.Output(), "천천히") {
		t.Errorf("exit code %d:\n%s", code, script.Output())
	}
	her.out.await(t, " you: and goodbye\n")

	frames := p.as(kongi)
	frames.Output, frames.Last = "json", 100
	watching := talking(t, frames)
	watching.out.await(t, `"and goodbye"`)
	watching.types(t, "over")
	watching.out.await(t, `"posted"`)
	watching.in.Close()
	if err := watching.ends(t); err != nil {
		t.Error(err)
	}
	var seqs []uint64
	for line := range strings.Lines(watching.out.String()) {
		var f struct {
			Type string
			Seq  uint64
		}
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		if f.Type == "message" {
			seqs = append(seqs, f.Seq)
		}
	}
	for i, seq := range seqs {
		if seq != uint64(i+1) {
			t.Fatalf("messages %v", seqs)
		}
	}

	her.types(t, "/leave")
	her.err.await(t, "type /leave again")
	her.types(t, "/leave")
	her.err.await(t, "-- you left this room\n")
	if err := her.ends(t); err != nil {
		t.Error(err)
	}
	late := talking(t, p.as(minji))
	late.types(t, "still here?")
	if err := late.ends(t); err == nil || !strings.Contains(err.Error(), "room.left") && !strings.Contains(err.Error(), "not acknowledged") {
		t.Errorf("who left talks on: %v", err)
	}
}

func TestALostNodeIsToldAndWhatWaitsIsPostedOnce(t *testing.T) {
	t.Parallel()
	p := newParlour(t)
	hers := p.as(minji)
	through, proxy := harness.Through(t, p.url)
	hers.URL = []string{through}
	her, him := talking(t, hers), talking(t, p.as(kongi))
	her.types(t, "one")
	him.out.await(t, "minji: one\n")
	proxy.Cut()
	her.err.await(t, "-- the node is lost")
	her.types(t, "two")
	her.err.await(t, "-- not acknowledged yet: two\n")
	him.types(t, "are you there?")
	him.out.await(t, "you: are you there?\n")
	proxy.Restore(t)
	her.err.await(t, "-- back, at "+through)
	her.out.await(t, "kongi: are you there?\n")
	her.err.await(t, "-- acknowledged as message 3: two\n")
	her.in.Close()
	if err := her.ends(t); err != nil {
		t.Error(err)
	}
	him.types(t, "bye")
	him.out.await(t, "you: bye\n")
	for _, text := range []string{"minji: one\n", "minji: two\n"} {
		if n := strings.Count(him.out.String(), text); n != 1 {
			t.Errorf("he saw %q %d times", text, n)
		}
	}
	him.in.Close()
	if err := him.ends(t); err != nil {
		t.Error(err)
	}
}

func TestAChatThatCannotBeSaysWhatToDo(t *testing.T) {
	t.Parallel()
	p := newParlour(t)
	key, err := auth.LoadKeyFile(filepath.Join(p.data, authKeyName))
	if err != nil {
		t.Fatal(err)
	}
	expired, err := key.Mint("minji", "customer", -time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "auth.key")
	if _, err := auth.LoadOrGenerateKeyFile(other); err != nil {
		t.Fatal(err)
	}
	here := []string{"--data", p.data}
	for _, c := range []struct {
		name string
		code int
		args []string
		says []string
	}{
		{"nobody", 2, nil, []string{"--as", "--token"}},
		{"two people", 2, []string{"--as", "customer:minji", "--token", "x"}, []string{"one of", "--as"}},
		{"a role that talks to nobody", 2, []string{"--as", "admin:ops"}, []string{"customer:SUB"}},
		{"no address", 2, []string{"--as", "customer:minji", "--url", "salon"}, []string{"--url"}},
		{"a number below none", 2, []string{"--as", "customer:minji", "--last=-1"}, []string{"--last"}},
		{"nobody serves", 1, []string{"--as", "customer:minji", "--url", "http://127.0.0.1:1,http://127.0.0.1:2"}, []string{"make run", "--url"}},
		{"an expired token", 1, []string{"--token", expired}, []string{"auth.invalid", "salon token"}},
		{"another system's key", 1, []string{"--as", "customer:minji", "--auth-key-file", other}, []string{"auth.invalid", "--auth-key-file"}},
		{"no key", 1, []string{"--as", "customer:minji", "--auth-key-file", other + "x"}, []string{"salon up", "--auth-key-file"}},
		{"no token in the file", 1, []string{"--token-file", other + "x"}, []string{other + "x"}},
		{"an outsider", 1, []string{"--as", "customer:jiho"}, []string{"room.unknown", "reservation"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			args := append(append([]string{"chat", p.room}, here...), c.args...)
			if !slices.Contains(c.args, "--url") {
				args = append(args, "--url", p.url)
			}
			call(t, args...).refused(t, c.code, c.says...)
		})
	}
	call(t, append([]string{"chat", "nowhere", "--as", "customer:minji", "--url", p.url}, here...)...).refused(t, 1, "nowhere", "room.unknown")
}

func TestAMessageIsOneLine(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 12, 1, 9, 8, 7, 0, time.Local)
	say := func(text string) live.Message {
		return live.Message{Message: readapi.Message{Sender: readapi.Person{ID: "kongi", Role: "groomer"}, Text: &text, SentAt: at}}
	}
	image := "https://pics.example/1.jpg"
	erased, picture := say(""), say("")
	erased.Text = nil
	picture.Text, picture.ImageURL = nil, &image
	for _, c := range []struct {
		m    live.Message
		me   string
		now  time.Time
		want string
	}{
		{say("hi"), "minji", at, "09:08:07 groomer kongi: hi"},
		{say("hi"), "kongi", at, "09:08:07 you: hi"},
		{say("hi"), "minji", at.AddDate(0, 0, 1), "2026-12-01 09:08:07 groomer kongi: hi"},
		{say("two\nlines\x1b]0;title\a\u009b"), "minji", at, "09:08:07 groomer kongi: two⏎lines]0;title"},
		{say("👩‍👧 콩이"), "minji", at, "09:08:07 groomer kongi: 👩‍👧 콩이"},
		{erased, "minji", at, "09:08:07 groomer kongi: (erased)"},
		{picture, "minji", at, "09:08:07 groomer kongi: " + image},
	} {
		if got := shown(c.m, readapi.Person{ID: c.me, Role: "groomer"}, c.now); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
