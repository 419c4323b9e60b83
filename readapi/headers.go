package readapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/internal/httpserver"
)

// How long a read waits for the caller's own writes.
const (
	defaultWait = 2 * time.Second
	maxWait     = 30 * time.Second
)

// ReadHeaders is what every read accepts; embed it in an operation's input.
type ReadHeaders struct {
	ConsistencyToken string `header:"Consistency-Token" doc:"Of earlier writes, several separated by commas: the answer is never older than they are"`
	Prefer           string `header:"Prefer" doc:"wait=N: wait at most N seconds (default 2, at most 30) for those writes" example:"wait=5"`
	IfNoneMatch      string `header:"If-None-Match" doc:"ETags that the caller has: 304 when the answer would be the same"`
}

// Resolve joins headers that came in several lines: RFC 9110 makes them one list, and a token that is overlooked
// would be a read that is too old.
func (h *ReadHeaders) Resolve(ctx huma.Context) []error {
	h.ConsistencyToken = header(ctx, "Consistency-Token")
	h.Prefer = header(ctx, "Prefer")
	return nil
}

func (h ReadHeaders) wait() time.Duration {
	if d, ok := preferredWait(h.Prefer); ok {
		return d
	}
	return defaultWait
}

// preferredWait reads wait=N of a Prefer header. A preference that makes no sense is ignored, as RFC 7240 asks; a
// longer wait than we grant becomes the longest.
func preferredWait(prefer string) (time.Duration, bool) {
	for p := range strings.SplitSeq(prefer, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		n, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
		if err != nil {
			return 0, false
		}
		return min(time.Duration(n)*time.Second, maxWait), true
	}
	return 0, false
}

func header(ctx huma.Context, name string) string {
	var lines []string
	ctx.EachHeader(func(n, value string) {
		if strings.EqualFold(n, name) {
			lines = append(lines, value)
		}
	})
	return strings.Join(lines, ", ")
}

// operation describes a read. Its answers get an ETag (the handler's own, else a hash of the body), 304 for a caller
// who has it, and Preference-Applied.
func operation(id, path, summary string, who ...string) huma.Operation {
	op := httpserver.Operation(id, http.MethodGet, path, summary, who...)
	op.Middlewares = append(op.Middlewares, conditional)
	return op
}

// conditional holds a success back until its ETag is known.
func conditional(ctx huma.Context, next func(huma.Context)) {
	held := &heldAnswer{inner: ctx}
	next(held)
	if held.status != http.StatusOK {
		return // it went straight through
	}
	if held.etag == "" {
		sum := sha256.Sum256(held.body.Bytes())
		held.etag = `"` + base64.RawURLEncoding.EncodeToString(sum[:18]) + `"`
	}
	ctx.SetHeader("ETag", held.etag)
	if d, ok := preferredWait(header(ctx, "Prefer")); ok {
		ctx.SetHeader("Preference-Applied", fmt.Sprintf("wait=%d", int(d.Seconds())))
	}
	if matches(header(ctx, "If-None-Match"), held.etag) {
		ctx.SetStatus(http.StatusNotModified)
		return
	}
	ctx.SetStatus(http.StatusOK)
	// A caller that went away is nobody's failure.
	_, _ = ctx.BodyWriter().Write(held.body.Bytes())
}

// matches compares weakly, as RFC 9110 says of If-None-Match.
func matches(list, etag string) bool {
	for t := range strings.SplitSeq(list, ",") {
		t = strings.TrimSpace(t)
		if t == "*" || strings.TrimPrefix(t, "W/") == etag {
			return true
		}
	}
	return false
}

type inner = huma.Context

// heldAnswer keeps the status and body of a success; everything else it passes on.
type heldAnswer struct {
	inner
	status int
	etag   string
	body   bytes.Buffer
}

func (h *heldAnswer) SetStatus(code int) {
	h.status = code
	if code != http.StatusOK {
		h.inner.SetStatus(code)
	}
}

func (h *heldAnswer) Status() int { return h.status }

func (h *heldAnswer) SetHeader(name, value string) {
	if strings.EqualFold(name, "ETag") {
		h.etag = value
		return
	}
	h.inner.SetHeader(name, value)
}

func (h *heldAnswer) BodyWriter() io.Writer {
	if h.status == http.StatusOK {
		return &h.body
	}
	return h.inner.BodyWriter()
}

// answer is a success with its body.
type answer[T any] struct {
	Mark
	Body T
}

// Mark says in a header that something in the answer stands still: an event of its key could not be applied.
type Mark struct {
	XParked string `header:"X-Parked" doc:"true: something here stands still, because an event of its key could not be applied yet; it is marked parked"`
}

func (m *Mark) note(parked bool) {
	if parked {
		m.XParked = "true"
	}
}

// tagged is a success whose ETag is a revision: the one that If-Match takes on the write side.
type tagged[T any] struct {
	Mark
	ETag string `header:"ETag"`
	Body T
}

func tag[T any](body T, revision uint64) tagged[T] {
	return tagged[T]{ETag: fmt.Sprintf("%q", strconv.FormatUint(revision, 10)), Body: body}
}
