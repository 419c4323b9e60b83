package httpserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tokens are "role:sub".
type tokens struct{}

func (tokens) Verify(_ context.Context, bearer string) (auth.Identity, error) {
	role, sub, ok := strings.Cut(bearer, ":")
	if !ok {
		return auth.Identity{}, errors.New("no")
	}
	return auth.Identity{Sub: sub, Role: role}, nil
}

type echoInput struct {
	Body struct {
		Price int    `json:"price" maximum:"10"`
		Name  string `json:"name,omitempty"`
		Inner *struct {
			Size string `json:"size" enum:"small,large"`
		} `json:"inner,omitempty"`
	}
}

type echoOutput struct {
	Body struct {
		Price int    `json:"price"`
		Sub   string `json:"sub"`
	}
}

func newTestServer(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.Verifier = tokens{}
	s := New(cfg)
	huma.Register(s.API(), Operation("echo", "POST", "/v1/echo/{id}", "Says it again", "customer"), func(ctx context.Context, in *echoInput) (*echoOutput, error) {
		out := &echoOutput{}
		id, _ := auth.From(ctx)
		out.Body.Price, out.Body.Sub = in.Body.Price, id.Sub
		return out, nil
	})
	huma.Register(s.API(), Operation("open", "GET", "/v1/open", "For anyone"), func(ctx context.Context, in *struct {
		Limit int `query:"limit" minimum:"1"`
	}) (*struct{}, error) {
		return nil, nil
	})
	huma.Register(s.API(), Operation("mine", "GET", "/v1/mine", "For anyone signed in", "*"), func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
	huma.Register(s.API(), Operation("fails", "GET", "/v1/fails/{how}", "Fails"), func(_ context.Context, in *struct {
		How string `path:"how"`
	}) (*struct{}, error) {
		switch in.How {
		case "refusal":
			return nil, fmt.Errorf("hold: %w", domain.Refuse("slot.taken", "somebody was first"))
		case "store":
			return nil, fmt.Errorf("append: %w", eventstore.ErrUnavailable)
		case "panic":
			panic("secret")
		}
		return nil, errors.New("secret")
	})
	return s
}

type answer struct {
	status int
	header http.Header
	body   string
	p      problem.Problem
}

func call(t *testing.T, h http.Handler, method, path, token, body string, headers ...string) answer {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	a := answer{status: w.Code, header: w.Header(), body: w.Body.String()}
	if w.Code >= 400 && method != "HEAD" {
		if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("%s %s: content type %q", method, path, got)
		}
		if err := json.Unmarshal(w.Body.Bytes(), &a.p); err != nil {
			t.Errorf("%s %s: %v in %s", method, path, err, a.body)
		}
		if a.p.Status != w.Code || len(a.p.TraceID) != 32 || a.p.Title == "" || a.p.Type == "" || a.p.Detail == "" {
			t.Errorf("%s %s: not a whole problem: %s", method, path, a.body)
		}
	}
	return a
}

func TestEveryFailureIsAProblemWithACode(t *testing.T) {
	t.Parallel()
	var logs lockedBuffer
	h := newTestServer(t, Config{Log: slog.New(slog.NewJSONHandler(&logs, nil))}).Handler()
	const echo = "/v1/echo/1"
	for _, c := range []struct {
		name, method, path, token, body string
		status                          int
		code                            string
	}{
		{"accepted", "POST", echo, "customer:kim", `{"price":3}`, 200, ""},
		{"unknown field", "POST", echo, "customer:kim", `{"price":1,"x":2}`, 400, "request.invalid"},
		{"schema link", "POST", echo, "customer:kim", `{"$schema":"x","price":1}`, 400, "request.invalid"},
		{"other letter case", "POST", echo, "customer:kim", `{"Price":1}`, 400, "request.invalid"},
		{"both cases", "POST", echo, "customer:kim", `{"price":1,"PRICE":9999}`, 400, "request.invalid"},
		{"repeated key", "POST", echo, "customer:kim", `{"price":1,"price":2}`, 400, "request.invalid"},
		{"repeated key, escaped", "POST", echo, "customer:kim", `{"price":1,"pri\u0063e":2}`, 400, "request.invalid"},
		{"repeated key inside", "POST", echo, "customer:kim", `{"price":1,"inner":{"size":"small","size":"large"}}`, 400, "request.invalid"},
		{"same key in two objects", "POST", echo, "customer:kim", `{"price":1,"inner":{"size":"small"},"name":"size"}`, 200, ""},
		{"wrong type", "POST", echo, "customer:kim", `{"price":"1"}`, 400, "request.invalid"},
		{"fraction", "POST", echo, "customer:kim", `{"price":1.5}`, 400, "request.invalid"},
		{"too large for an int", "POST", echo, "customer:kim", `{"price":-1e300}`, 400, "request.invalid"},
		{"out of range", "POST", echo, "customer:kim", `{"price":11}`, 400, "request.invalid"},
		{"null", "POST", echo, "customer:kim", `null`, 400, "request.invalid"},
		{"array", "POST", echo, "customer:kim", `[]`, 400, "request.invalid"},
		{"empty", "POST", echo, "customer:kim", ``, 400, "request.invalid"},
		{"half", "POST", echo, "customer:kim", `{"price":`, 400, "request.invalid"},
		{"two values", "POST", echo, "customer:kim", `{"price":1}{"price":2}`, 400, "request.invalid"},
		{"not UTF-8", "POST", echo, "customer:kim", "{\"price\":1,\"name\":\"\xff\"}", 400, "request.invalid"},
		{"deep", "POST", echo, "customer:kim", strings.Repeat("[", 30000), 400, "request.invalid"},
		{"64 KiB and one", "POST", echo, "customer:kim", `{"price":1,"name":"` + strings.Repeat("x", MaxBodyBytes) + `"}`, 413, "request.too_large"},
		{"exactly 64 KiB", "POST", echo, "customer:kim", `{"price":1,"name":"` + strings.Repeat("x", MaxBodyBytes-21) + `"}`, 200, ""},
		{"no token", "POST", echo, "", `{"price":1}`, 401, "auth.missing"},
		{"bad token", "POST", echo, "x", `{"price":1}`, 401, "auth.invalid"},
		{"wrong role", "POST", echo, "groomer:mong", `{"price":1}`, 403, "auth.forbidden"},
		{"open without a token", "GET", "/v1/open", "", "", 204, ""},
		{"open with a bad token", "GET", "/v1/open", "x", "", 401, "auth.invalid"},
		{"unknown query", "GET", "/v1/open?limits=1", "", "", 400, "request.invalid"},
		{"bad query", "GET", "/v1/open?limit=0", "", "", 400, "request.invalid"},
		{"anyone signed in", "GET", "/v1/mine", "analyst:a", "", 204, ""},
		{"anyone signed in, nobody", "GET", "/v1/mine", "", "", 401, "auth.missing"},
		{"unknown route", "GET", "/v1/nothing", "", "", 404, "route.unknown"},
		{"unknown method", "DELETE", echo, "customer:kim", "", 405, "method.not_allowed"},
		{"made-up method", "BREW", echo, "customer:kim", "", 405, "method.not_allowed"},
		{"refusal", "GET", "/v1/fails/refusal", "", "", 409, "slot.taken"},
		{"store away", "GET", "/v1/fails/store", "", "", 503, "store.unavailable"},
		{"panic", "GET", "/v1/fails/panic", "", "", 500, "internal.error"},
		{"bug", "GET", "/v1/fails/bug", "", "", 500, "internal.error"},
	} {
		got := call(t, h, c.method, c.path, c.token, c.body)
		if got.status != c.status || got.p.Code != c.code {
			t.Errorf("%s: got %d %q, want %d %q: %s", c.name, got.status, got.p.Code, c.status, c.code, got.body)
		}
		if strings.Contains(got.body, "secret") {
			t.Errorf("%s: tells what is internal: %s", c.name, got.body)
		}
		if c.status == 503 && got.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", c.name)
		}
	}
	if n := strings.Count(logs.String(), `"msg":"request failed"`); n != 3 {
		t.Errorf("%d failures in the log, want 3:\n%s", n, logs.String())
	}
	if strings.Contains(logs.String(), "kim") || strings.Contains(logs.String(), "/v1/echo/1") {
		t.Error("the log names a caller or a path")
	}
}

func TestAMediaTypeThatIsNotJSONIsRefused(t *testing.T) {
	t.Parallel()
	h := newTestServer(t, Config{}).Handler()
	for contentType, status := range map[string]int{"application/json; charset=utf-8": 200, "text/xml": 415, "a;b+c": 400} {
		got := call(t, h, "POST", "/v1/echo/1", "customer:kim", `{"price":1}`, "Content-Type", contentType)
		if got.status/100 != status/100 {
			t.Errorf("%s: got %d, want %d", contentType, got.status, status)
		}
	}
	got := call(t, h, "POST", "/v1/echo/1", "customer:kim", `{"price":1}`, "Accept", "text/html")
	if got.status != 200 || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %s", got.status, got.header.Get("Content-Type"))
	}
}

func TestABodyThatBreaksOffIsTheCallersFault(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("POST", "/v1/echo/1", io.MultiReader(strings.NewReader(`{"pr`), broken{}))
	r.Header.Set("Authorization", "Bearer customer:kim")
	w := httptest.NewRecorder()
	newTestServer(t, Config{}).Handler().ServeHTTP(w, r)
	if w.Code != 400 {
		t.Errorf("got %d: %s", w.Code, w.Body)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func TestEachSubjectHasItsOwnRate(t *testing.T) {
	t.Parallel()
	h := newTestServer(t, Config{RateLimit: 0.001}).Handler() // a burst of one
	for _, c := range []struct {
		token  string
		status int
	}{{"customer:kim", 204}, {"customer:kim", 429}, {"groomer:kim", 204}, {"", 401}, {"", 429}, {"bad", 429}} {
		got := call(t, h, "GET", "/v1/mine", c.token, "")
		if got.status != c.status {
			t.Errorf("%q: got %d, want %d", c.token, got.status, c.status)
		}
		if got.status == 429 && (got.header.Get("Retry-After") == "" || got.p.Code != "rate.limited") {
			t.Errorf("%q: %+v", c.token, got)
		}
	}
}

func TestOnlyATrustedProxyNamesTheCaller(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what  string
		peer  string
		trust string
		then  []string // X-Forwarded-For, one request each
		want  int      // of the last
	}{
		{"nobody is trusted: the peer is counted", "192.0.2.1", "", []string{"203.0.113.1", "203.0.113.2"}, 429},
		{"another is trusted", "192.0.2.1", "198.51.100.0/24", []string{"203.0.113.1", "203.0.113.2"}, 429},
		{"a private network is not trusted by itself", "10.0.0.9", "198.51.100.0/24", []string{"10.0.0.1", "10.0.0.2"}, 429},
		{"the peer is trusted: whom it names is counted", "192.0.2.1", "192.0.2.1/32", []string{"203.0.113.1", "203.0.113.2"}, 401},
		{"and once", "192.0.2.1", "192.0.2.1/32", []string{"203.0.113.1", "203.0.113.1"}, 429},
		{"what a caller claims before it is not believed", "192.0.2.1", "192.0.2.1/32", []string{"10.9.9.9, 203.0.113.1", "10.8.8.8, 203.0.113.1"}, 429},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			cfg := Config{RateLimit: 0.001}
			if c.trust != "" {
				cfg.TrustProxy = []netip.Prefix{netip.MustParsePrefix(c.trust)}
			}
			h := newTestServer(t, cfg).Handler()
			from := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.RemoteAddr = c.peer + ":1234"
				h.ServeHTTP(w, r)
			})
			var got answer
			for _, caller := range c.then {
				got = call(t, from, "GET", "/v1/mine", "", "", "X-Forwarded-For", caller)
			}
			if got.status != c.want {
				t.Errorf("got %d, want %d", got.status, c.want)
			}
		})
	}
}

func TestAnswersCarrySecurityHeaders(t *testing.T) {
	t.Parallel()
	h := newTestServer(t, Config{}).Handler()
	for _, path := range []string{"/v1/open", "/v1/nothing", "/docs", "/openapi.json", "/v1/fails/panic"} {
		got := call(t, h, "GET", path, "customer:kim", "")
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store"} {
			if v := got.header.Get(name); v != want {
				t.Errorf("%s: %s is %q", path, name, v)
			}
		}
		if !strings.Contains(got.header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: policy %q", path, got.header.Get("Content-Security-Policy"))
		}
	}
	if got := call(t, h, "GET", "/v1/open", "", ""); got.header.Get("Cache-Control") != "" {
		t.Error("an open answer may be cached")
	}
}

func TestBrowsersOfChosenOriginsMayCall(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		origins []string
		want    string
	}{{nil, ""}, {[]string{"https://app.example"}, "https://app.example"}, {[]string{"https://other.example"}, ""}} {
		h := newTestServer(t, Config{CORSOrigins: c.origins}).Handler()
		r := httptest.NewRequest("OPTIONS", "/v1/echo/1", nil)
		r.Header.Set("Origin", "https://app.example")
		r.Header.Set("Access-Control-Request-Method", "POST")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Header().Get("Access-Control-Allow-Origin"); got != c.want {
			t.Errorf("%v: allowed %q, want %q", c.origins, got, c.want)
		}
	}
}

func TestTheDocumentListsEveryOperationAndTheDocsNeedNoOtherHost(t *testing.T) {
	t.Parallel()
	h := newTestServer(t, Config{}).Handler()
	var doc struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
	}
	got := call(t, h, "GET", "/openapi.json", "", "")
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || len(doc.Paths) != 4 {
		t.Errorf("openapi %s with %d paths", doc.OpenAPI, len(doc.Paths))
	}
	page := call(t, h, "GET", "/docs", "", "").body
	for _, want := range []string{"/v1/echo/{id}", "/v1/open", "anyone signed in", "customer"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, not := range []string{"http://", "https://", "<script"} {
		if strings.Contains(page, not) {
			t.Errorf("the page has %q", not)
		}
	}
}

func TestARequestKeepsItsIDsAndIsCountedByItsRoute(t *testing.T) {
	t.Parallel()
	type seen struct {
		method, route string
		status        int
	}
	var all []seen
	s := newTestServer(t, Config{Observe: func(method, route string, status int, took time.Duration) {
		if took <= 0 {
			t.Error("it took no time")
		}
		all = append(all, seen{method, route, status})
	}})
	var parent trace.SpanContext
	huma.Register(s.API(), Operation("span", "GET", "/v1/span", "Shows its trace"), func(ctx context.Context, _ *struct{}) (*struct{}, error) {
		parent = trace.SpanContextFromContext(ctx)
		return nil, domain.Refuse("x.unknown", "no")
	})
	h := s.Handler()
	got := call(t, h, "GET", "/v1/span", "", "", "X-Request-Id", "mine-1", "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if got.header.Get("X-Request-Id") != "mine-1" || got.p.TraceID != "0af7651916cd43dd8448eb211c80319c" || parent.TraceID().String() != got.p.TraceID {
		t.Errorf("request %q, trace %q", got.header.Get("X-Request-Id"), got.p.TraceID)
	}
	if got := call(t, h, "GET", "/v1/open", "", "", "X-Request-Id", "a\tb"); got.header.Get("X-Request-Id") == "a\tb" {
		t.Error("a request ID with control characters is kept")
	}
	call(t, h, "POST", "/v1/echo/secret-id", "customer:kim", `{"price":1}`)
	s.Echo().GET("/v1/socket", func(c echo.Context) error { return c.NoContent(http.StatusSwitchingProtocols) }) // how long it is open is no latency
	call(t, h, "GET", "/v1/socket", "", "")
	call(t, h, "HACK", "/nowhere", "", "")
	if len(all) != 4 {
		t.Errorf("counted %+v", all)
	}
	want := []seen{{"GET", "/v1/span", 404}, {"GET", "/v1/open", 204}, {"POST", "/v1/echo/:id", 200}}
	for i, w := range want {
		if all[i] != w {
			t.Errorf("got %+v, want %+v", all[i], w)
		}
	}
	if last := all[len(all)-1]; last.method != "OTHER" || strings.Contains(last.route, "nowhere") {
		t.Errorf("a caller's text became a label: %+v", last)
	}
}

func TestRunFinishesWhatItBegan(t *testing.T) {
	t.Parallel()
	s := New(Config{Verifier: tokens{}})
	entered, release := make(chan struct{}), make(chan struct{})
	huma.Register(s.API(), Operation("slow", "GET", "/v1/slow", "Slow"), func(context.Context, *struct{}) (*struct{}, error) {
		close(entered)
		<-release
		return nil, nil
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Run(ctx, l) }()
	status := make(chan int, 1)
	go func() {
		resp, err := http.Get("http://" + l.Addr().String() + "/v1/slow")
		if err != nil {
			t.Error(err)
			status <- 0
			return
		}
		resp.Body.Close()
		status <- resp.StatusCode
	}()
	<-entered
	cancel()
	close(release)
	if got := <-status; got != 204 {
		t.Errorf("got %d", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Who asks for what is for admins is told of; who asks for what another customer may, or without a token, is not.
func TestWhoIsRefusedAnAdminsOperationIsToldOf(t *testing.T) {
	t.Parallel()
	var got []string
	s := newTestServer(t, Config{Refused: func(by auth.Identity, operation string) { got = append(got, by.Role+":"+by.Sub+" "+operation) }})
	huma.Register(s.API(), Operation("look", http.MethodGet, "/v1/look", "For admins", "admin", "analyst"),
		func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
	huma.Register(s.API(), Operation("brush", http.MethodGet, "/v1/brush", "For groomers", "groomer"),
		func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
	for _, c := range [][2]string{{"customer:kim", "/v1/look"}, {"customer:kim", "/v1/brush"}, {"analyst:lee", "/v1/look"}, {"", "/v1/look"}, {"groomer:kim", "/v1/look"}} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, c[1], nil)
		if c[0] != "" {
			r.Header.Set("Authorization", "Bearer "+c[0])
		}
		s.echo.ServeHTTP(httptest.NewRecorder(), r)
	}
	if want := "customer:kim look, groomer:kim look"; strings.Join(got, ", ") != want {
		t.Errorf("told of %q, want %q", got, want)
	}
}
