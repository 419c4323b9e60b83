package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// The headers of a delivery.
const (
	// IDHeader is the same each time that a notification is delivered: an endpoint that has seen it has had it.
	IDHeader = "Salon-Notification-Id"
	// SignatureHeader is Sign's.
	SignatureHeader = "Salon-Signature"
)

const (
	postTimeout   = 5 * time.Second
	maxAnswer     = 4 << 10 // bytes of an answer that are read, so that the connection can be used again
	minSecretSize = 16
)

// Endpoint is where notifications go.
type Endpoint struct {
	// URL is https, or http to this very machine.
	URL string
	// Secret signs. At least 16 bytes, known to the endpoint alone.
	Secret []byte
}

// Validate says what is wrong with an endpoint, without repeating it: a path may be as secret as the secret.
func (e Endpoint) Validate() error {
	var errs []error
	u, err := url.Parse(e.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		errs = append(errs, errors.New("the webhook is not an https:// URL"))
	case u.Scheme == "http" && !loopback(u.Hostname()):
		errs = append(errs, errors.New("the webhook is http:// to another machine: anybody between could read and repeat it; use https://"))
	case u.User != nil || u.Fragment != "":
		errs = append(errs, errors.New("the webhook's URL has a user or a fragment, which would not be sent; deliveries are signed instead"))
	}
	if len(e.Secret) < minSecretSize {
		errs = append(errs, fmt.Errorf("the webhook's secret is shorter than %d bytes", minSecretSize))
	}
	return errors.Join(errs...)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Sign is the signature of a body sent at a time: "t=UNIX,v1=HEX", where HEX is HMAC-SHA256 under the endpoint's secret
// over "UNIX.BODY". The endpoint computes the same, compares in constant time, and refuses a time that is minutes away.
func Sign(secret []byte, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// failure is a delivery that was not accepted.
type failure struct {
	cause  string // short: groups what is parked
	detail string
	final  bool // the endpoint understood and refused: the same again would be refused again
}

func (f *failure) Error() string { return f.cause + ": " + f.detail }

type webhook struct {
	endpoint Endpoint
	client   *http.Client
	now      func() time.Time
}

func newWebhook(e Endpoint, now func() time.Time) *webhook {
	return &webhook{endpoint: e, now: now, client: &http.Client{
		Timeout: postTimeout,
		// A redirect would carry a signed body to whom the operator never named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:       http.ProxyFromEnvironment,
			DialContext: (&net.Dialer{Timeout: postTimeout}).DialContext, TLSHandshakeTimeout: postTimeout,
			MaxResponseHeaderBytes: 16 << 10, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true,
		},
	}}
}

func (w *webhook) close() { w.client.CloseIdleConnections() }

// post delivers one body. It is not broken off by ctx's end, only by its own time-out: what has begun may have arrived.
func (w *webhook) post(ctx context.Context, id string, body []byte) *failure {
	r, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, w.endpoint.URL, bytes.NewReader(body))
	if err != nil {
		return &failure{cause: "request", detail: "the request could not be made"}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "salon-notify")
	r.Header.Set(IDHeader, id)
	r.Header.Set(SignatureHeader, Sign(w.endpoint.Secret, w.now(), body))
	a, err := w.client.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			if u.Timeout() {
				return &failure{cause: "timeout", detail: "no answer within " + postTimeout.String()}
			}
			err = u.Err // u itself repeats the URL
		}
		return &failure{cause: "unreachable", detail: err.Error()}
	}
	defer a.Body.Close()
	_, _ = io.CopyN(io.Discard, a.Body, maxAnswer)
	if a.StatusCode >= 200 && a.StatusCode < 300 {
		return nil
	}
	f := &failure{cause: "status " + strconv.Itoa(a.StatusCode), detail: http.StatusText(a.StatusCode)}
	switch a.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
	default:
		f.final = a.StatusCode < 500
	}
	return f
}
