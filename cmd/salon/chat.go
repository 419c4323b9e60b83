package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"

	"github.com/dangdangsalon/salon/readapi"
	"github.com/dangdangsalon/salon/readapi/live"
	"github.com/dangdangsalon/salon/readapi/live/liveclient"
)

type chatCmd struct {
	Room        string   `arg:"" help:"The room: its reservation's ID."`
	URL         []string `name:"url" help:"Addresses of nodes that serve live; when one is lost, the next is taken." default:"http://127.0.0.1:8080" placeholder:"URL,…"`
	As          string   `help:"Who talks, signed in with the local key: customer:SUB or groomer:SUB." placeholder:"ROLE:SUB"`
	Token       string   `help:"Who talks, by a token." placeholder:"JWT"`
	TokenFile   string   `help:"Who talks, by a token in a file, which is read again for each connection." type:"path" placeholder:"FILE"`
	AuthKeyFile string   `help:"The local key that the system trusts. Without it, the one in the data folder." type:"path" placeholder:"FILE"`
	Data        string   `help:"Data folder of salon up." type:"path" default:"${data}"`
	Last        int      `help:"How many earlier messages are shown." default:"20"`
	Output      string   `help:"text, or json: every frame of the room as a line." short:"o" enum:"text,json" default:"text"`
}

// Help is shown by --help.
func (c *chatCmd) Help() string {
	return "Each line typed is posted. /read notes everything as read, /leave leaves the room for good, /quit or Ctrl-D ends; a text that begins " +
		"with / is typed with two of them.\n\nWithout a terminal, lines of stdin are posted, and it ends when the last was acknowledged: " +
		"echo hi | salon chat ROOM --as customer:minji"
}

// Run talks on a terminal, with a line to type in, or else from stdin to stdout.
func (c *chatCmd) Run(ctx context.Context, t *terminal) error {
	in := int(os.Stdin.Fd())
	if t.out != io.Writer(os.Stdout) || c.Output != "text" || !term.IsTerminal(in) || !term.IsTerminal(int(os.Stdout.Fd())) {
		return c.talk(ctx, os.Stdin, t)
	}
	before, err := term.MakeRaw(in)
	if err != nil {
		return fmt.Errorf("prepare the terminal: %w", err)
	}
	defer func() { _ = term.Restore(in, before) }()
	line := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{os.Stdin, os.Stdout}, "> ")
	if width, height, err := term.GetSize(in); err == nil && width > 0 {
		_ = line.SetSize(width, height)
	}
	defer fmt.Fprint(os.Stdout, "\r\x1b[K") // the prompt
	return c.converse(ctx, conversation{
		out: aboveLine{line}, err: aboveLine{line},
		read: func() (string, error) {
			typed, err := line.ReadLine()
			if err == nil {
				_, err = line.Write([]byte("\x1b[A\r\x1b[K")) // it is shown when it is a message
			}
			return typed, err
		},
		typed: func(key func()) {
			line.AutoCompleteCallback = func(string, int, rune) (string, int, bool) {
				key()
				return "", 0, false
			}
		},
		ended: func() { _ = term.Restore(in, before) }, // so that Ctrl-C ends it while the last message waits
	})
}

// talk is without a terminal: plain lines in, plain lines out, and what is no message to stderr.
func (c *chatCmd) talk(ctx context.Context, in io.Reader, t *terminal) error {
	lines := bufio.NewReader(in)
	return c.converse(ctx, conversation{
		out: t.out, err: t.err,
		read: func() (string, error) {
			line, err := lines.ReadString('\n')
			if line != "" {
				err = nil // its end is read next
			}
			return line, err
		},
		typed: func(func()) {},
		ended: func() {},
	})
}

// aboveLine prints above the line that is being typed. That one is cleared from its beginning: the terminal counts a
// Hangul syllable as one column.
type aboveLine struct{ line *term.Terminal }

func (a aboveLine) Write(b []byte) (int, error) {
	if _, err := a.line.Write(append([]byte("\r\x1b[K"), b...)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// converse finds out who talks and where, and lets them.
func (c *chatCmd) converse(ctx context.Context, v conversation) error {
	for i, u := range c.URL {
		if err := checkURL(u); err != nil {
			return usage(err)
		}
		c.URL[i] = strings.TrimSuffix(u, "/")
	}
	if c.Last < 0 {
		return usage(errors.New("--last: expected 0 or more"))
	}
	bearer, err := c.bearer()
	if err != nil {
		return err
	}
	first, err := bearer(ctx)
	if err != nil {
		return err
	}
	v.chatCmd, v.bearer, v.me = c, bearer, subjectOf(first)
	err = v.run(ctx)
	var refused *liveclient.RefusedError
	switch {
	case !errors.As(err, &refused):
		return err
	case refused.Status == http.StatusUnauthorized && c.As != "":
		return fmt.Errorf("%w: the system does not trust this key; name its own with --auth-key-file or --data", err)
	case refused.Status == http.StatusUnauthorized:
		return fmt.Errorf("%w: the token expired or is not this system's; make one with salon token", err)
	case refused.Status == http.StatusNotFound:
		return fmt.Errorf("%w: no node at %s serves live; name one with --url", err, strings.Join(c.URL, ", "))
	}
	return err
}

func checkURL(s string) error {
	if u, err := url.Parse(s); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("--url %q is not an http:// or https:// address", s)
	}
	return nil
}

// bearer gives a token for each connection.
func (c *chatCmd) bearer() (func(context.Context) (string, error), error) {
	given := 0
	for _, s := range []string{c.As, c.Token, c.TokenFile} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		return nil, usage(errors.New("say who talks, by one of --as customer:SUB or groomer:SUB (the local key signs), --token and --token-file"))
	}
	switch {
	case c.Token != "":
		return func(context.Context) (string, error) { return c.Token, nil }, nil
	case c.TokenFile != "":
		return func(context.Context) (string, error) {
			b, err := os.ReadFile(c.TokenFile)
			return strings.TrimSpace(string(b)), err
		}, nil
	}
	role, sub, _ := strings.Cut(c.As, ":")
	if sub == "" || role != "customer" && role != "groomer" {
		return nil, usage(fmt.Errorf("--as %q: expected customer:SUB or groomer:SUB", c.As))
	}
	return func(context.Context) (string, error) {
		return mint(keyFile(c.AuthKeyFile, c.Data), sub, role, time.Hour)
	}, nil
}

// subjectOf reads whose token it is, for what is shown; the server alone decides whether it is true.
func subjectOf(token string) (p readapi.Person) {
	if parts := strings.Split(token, "."); len(parts) == 3 {
		var claims struct{ Sub, Role string }
		if b, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil && json.Unmarshal(b, &claims) == nil {
			p = readapi.Person{ID: claims.Sub, Role: claims.Role}
		}
	}
	return p
}

// earlier asks the nodes for the last messages. They may be late, or serve no reads: then the subscription brings what
// there is, and found is false.
func (c *chatCmd) earlier(ctx context.Context, token string) (page readapi.Messages, found bool) {
	path := fmt.Sprintf("/v1/chat/rooms/%s/messages?limit=%d", url.PathEscape(c.Room), min(max(c.Last, 1), 100))
	for _, node := range c.URL {
		asking, cancel := context.WithTimeout(ctx, 3*time.Second)
		_, err := newClient(node, token).must(asking, http.MethodGet, path, "", nil, &page)
		cancel()
		if err == nil {
			page.Items = page.Items[max(0, len(page.Items)-c.Last):]
			return page, true
		}
	}
	return page, false
}

// leave leaves the room, at whichever node takes commands.
func (c *chatCmd) leave(ctx context.Context, token string) (err error) {
	for _, node := range c.URL {
		if _, err = newClient(node, token).must(ctx, http.MethodPost, "/v1/chat/rooms/"+url.PathEscape(c.Room)+"/leave", "", nil, nil); err == nil {
			return nil
		}
	}
	return err
}

// shown is a message on a terminal: whatever its sender put into it, it is one line without control characters.
func shown(m live.Message, me readapi.Person, now time.Time) string {
	who, text := nameOf(m.Sender), "(erased)"
	if m.Sender == me {
		who = "you"
	}
	if m.Text != nil {
		text = *m.Text
	} else if m.ImageURL != nil {
		text = *m.ImageURL
	}
	at, layout := m.SentAt.Local(), time.TimeOnly
	if at.YearDay() != now.YearDay() || at.Year() != now.Year() {
		layout = "2006-01-02 15:04:05"
	}
	return oneLine(at.Format(layout) + " " + who + ": " + text)
}

func nameOf(p readapi.Person) string { return p.Role + " " + p.ID }

// oneLine is text without what would move a terminal's cursor or change its state.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return '⏎'
		case unicode.IsControl(r):
			return -1
		}
		return r
	}, s)
}

// explain is a refused room, in the words of who can do something about it.
func (c *chatCmd) explain(e *live.Error) error {
	if e.Code == "room.unknown" {
		return fmt.Errorf("%s is no room of yours (room.unknown): a room has its reservation's ID, and its customer and its groomer are in it", c.Room)
	}
	return fmt.Errorf("room %s: %s: %s", c.Room, e.Code, e.Detail)
}
