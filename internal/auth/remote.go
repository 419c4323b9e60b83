package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/time/rate"
)

// remoteAlgorithms are the signatures of the key sets in use. No HMAC and no "none".
var remoteAlgorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
}

// FromJWKS verifies by the keys that a URL serves. They are fetched when first needed.
func FromJWKS(url, audience string) *Verifier {
	f := newFetcher()
	ctx := oidc.ClientContext(context.Background(), f.client()) //nolint:contextcheck // go-oidc takes its client from a context that it keeps
	return newVerifier(oidc.NewRemoteKeySet(ctx, url), "", audience, f, remoteAlgorithms...)
}

// FromIssuer verifies by the keys of an OpenID Connect issuer, found by its discovery document now.
func FromIssuer(ctx context.Context, issuer, audience string) (*Verifier, error) {
	f := newFetcher()
	ctx = oidc.ClientContext(context.WithoutCancel(ctx), f.client())
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return nil, fmt.Errorf("discover issuer %s: %w", issuer, err)
	}
	var found struct {
		JWKS string `json:"jwks_uri"`
	}
	if err := provider.Claims(&found); err != nil {
		return nil, fmt.Errorf("discover issuer %s: %w", issuer, err)
	}
	return newVerifier(oidc.NewRemoteKeySet(ctx, found.JWKS), issuer, audience, f, remoteAlgorithms...), nil
}

// fetcher limits how often keys are fetched: go-oidc asks again for every token that its keys do not verify, so
// anybody could make this process flood the issuer.
type fetcher struct {
	limit *rate.Limiter
	next  http.RoundTripper
	down  atomic.Bool
}

var errTooOften = errors.New("keys were fetched a moment ago")

func newFetcher() *fetcher {
	return &fetcher{limit: rate.NewLimiter(rate.Every(5*time.Second), 3), next: http.DefaultTransport}
}

func (f *fetcher) client() *http.Client { return &http.Client{Transport: f, Timeout: 5 * time.Second} }

// away reports that the last fetch failed: a token may be good and cannot be told so.
func (f *fetcher) away() bool { return f.down.Load() }

func (f *fetcher) RoundTrip(r *http.Request) (*http.Response, error) {
	if !f.limit.Allow() {
		return nil, errTooOften
	}
	resp, err := f.next.RoundTrip(r)
	f.down.Store(err != nil || resp.StatusCode >= http.StatusInternalServerError)
	return resp, err
}
