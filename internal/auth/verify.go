package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/dangdangsalon/salon/internal/problem"
)

// Leeway is how far clocks may differ when a token's times are checked.
const Leeway = 5 * time.Second

const (
	maxTokenBytes = 8 << 10
	maxCached     = 20_000          // verified tokens that are remembered
	maxCachedFor  = 5 * time.Minute // so that a key that was withdrawn stops counting soon
)

// Roles that a token may name.
var roles = []string{"customer", "groomer", "admin", "analyst"}

var groomerID = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

// ErrInvalid is every reason for which a token is not accepted; the text says which, for logs.
var ErrInvalid = errors.New("token not valid")

// Verifier checks tokens against one source of keys.
type Verifier struct {
	tokens *oidc.IDTokenVerifier
	fetch  *fetcher // nil for a local key
	now    func() time.Time

	mu    sync.Mutex
	known map[[sha256.Size]byte]cached
}

type cached struct {
	id    Identity
	until time.Time
}

// signing lists what may sign: public-key algorithms alone, so that no public key can pass for a shared secret.
func newVerifier(keys oidc.KeySet, issuer, audience string, fetch *fetcher, signing ...string) *Verifier {
	return &Verifier{
		tokens: oidc.NewVerifier(issuer, keys, &oidc.Config{
			ClientID: audience, SkipClientIDCheck: audience == "", SkipIssuerCheck: issuer == "",
			SkipExpiryCheck:      true, // done here: go-oidc allows nbf five minutes
			SupportedSigningAlgs: signing,
		}),
		fetch: fetch, now: time.Now, known: map[[sha256.Size]byte]cached{},
	}
}

// Verify gives the caller that a token names. The error wraps ErrInvalid, or is the problem 503 auth.unavailable
// while the keys cannot be fetched.
func (v *Verifier) Verify(ctx context.Context, bearer string) (Identity, error) {
	if len(bearer) > maxTokenBytes {
		return Identity{}, fmt.Errorf("%w: too long", ErrInvalid)
	}
	sum, now := sha256.Sum256([]byte(bearer)), v.now()
	if id, ok := v.cached(sum, now); ok {
		return id, nil
	}
	id, err := v.verify(ctx, bearer, now)
	if err != nil {
		return Identity{}, err
	}
	v.remember(sum, id, now)
	return id, nil
}

func (v *Verifier) verify(ctx context.Context, bearer string, now time.Time) (Identity, error) {
	token, err := v.tokens.Verify(ctx, bearer)
	if err != nil {
		if v.fetch != nil && v.fetch.away() {
			return Identity{}, problem.New(http.StatusServiceUnavailable, "auth.unavailable", "tokens cannot be checked at the moment").RetryAfter(5)
		}
		return Identity{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var claims struct {
		Sub  string   `json:"sub"`
		Role string   `json:"role"`
		Exp  *float64 `json:"exp"`
		Nbf  *float64 `json:"nbf"`
	}
	if err := token.Claims(&claims); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	switch {
	case claims.Exp == nil:
		return Identity{}, fmt.Errorf("%w: no exp", ErrInvalid)
	case !unixTime(*claims.Exp).Add(Leeway).After(now):
		return Identity{}, fmt.Errorf("%w: expired", ErrInvalid)
	case claims.Nbf != nil && unixTime(*claims.Nbf).Add(-Leeway).After(now):
		return Identity{}, fmt.Errorf("%w: not valid yet", ErrInvalid)
	}
	id := Identity{Sub: claims.Sub, Role: claims.Role, Expires: unixTime(*claims.Exp)}
	if err := id.check(); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return id, nil
}

// check holds an identity to the contract, whoever signed it.
func (id Identity) check() error {
	if !slices.Contains(roles, id.Role) {
		return errors.New("unknown role")
	}
	if id.Sub == "" || len(id.Sub) > 128 {
		return errors.New("sub has not 1 to 128 characters")
	}
	for i := range len(id.Sub) {
		if id.Sub[i] < 0x20 || id.Sub[i] > 0x7e {
			return errors.New("sub is not printable ASCII")
		}
	}
	if id.Role == "groomer" && !groomerID.MatchString(id.Sub) {
		return errors.New("a groomer's sub is its groomer ID")
	}
	return nil
}

// unixTime reads a NumericDate; what no clock reaches in practice is cut to year 9999.
func unixTime(seconds float64) time.Time {
	return time.Unix(int64(max(0, min(seconds, 253402300799))), 0)
}

func (v *Verifier) cached(sum [sha256.Size]byte, now time.Time) (Identity, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	c, ok := v.known[sum]
	if ok && !c.until.After(now) {
		delete(v.known, sum)
		return Identity{}, false
	}
	return c.id, ok
}

func (v *Verifier) remember(sum [sha256.Size]byte, id Identity, now time.Time) {
	until := now.Add(maxCachedFor)
	if e := id.Expires.Add(Leeway); e.Before(until) {
		until = e
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.known) >= maxCached {
		drop := maxCached / 20 // whichever the map yields first: all of them are cheap to verify again
		for k := range v.known {
			if delete(v.known, k); drop == 0 {
				break
			}
			drop--
		}
	}
	v.known[sum] = cached{id, until}
}
