package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/dangdangsalon/salon/internal/problem"
)

func localKey(t testing.TB) *LocalKey {
	t.Helper()
	k, err := LoadOrGenerateKeyFile(filepath.Join(t.TempDir(), "jwt.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t testing.TB, method jwt.SigningMethod, key any, kid string, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	if kid != "" {
		token.Header["kid"] = kid
	}
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAMintedTokenNamesItsCaller(t *testing.T) {
	t.Parallel()
	k := localKey(t)
	for _, c := range []struct{ sub, role string }{
		{"kim", "customer"}, {"mongmong-1", "groomer"}, {"root", "admin"}, {"ann", "analyst"},
		{strings.Repeat("x", 128), "customer"}, {"a b~!", "customer"},
	} {
		token, err := k.Mint(c.sub, c.role, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // verified, then from the cache
			id, err := k.Verifier().Verify(t.Context(), token)
			if err != nil || id.Sub != c.sub || id.Role != c.role || time.Until(id.Expires) < 59*time.Minute {
				t.Errorf("%s %s: got %+v, %v", c.role, c.sub, id, err)
			}
		}
	}
	if _, err := k.Mint("Not A Groomer", "groomer", time.Hour); err == nil {
		t.Error("minted what the verifier refuses")
	}
}

// For as long as a key is changed, two of them are good, and no third one.
func TestTwoKeysAreGoodWhileOneIsChanged(t *testing.T) {
	t.Parallel()
	one, other := localKey(t), localKey(t)
	both := one.Verifier(other)
	for name, c := range map[string]struct {
		key  *LocalKey
		good bool
	}{"the key": {one, true}, "the other": {other, true}, "a third": {localKey(t), false}} {
		token, err := c.key.Mint("kim", "customer", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := both.Verify(t.Context(), token); c.good && err != nil || !c.good && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsNotOurTokenIsRefused(t *testing.T) {
	t.Parallel()
	k := localKey(t)
	now := time.Now()
	good := func(change func(jwt.MapClaims)) jwt.MapClaims {
		c := jwt.MapClaims{"sub": "kim", "role": "customer", "exp": now.Add(time.Hour).Unix()}
		if change != nil {
			change(c)
		}
		return c
	}
	eddsa := func(change func(jwt.MapClaims)) string {
		return sign(t, jwt.SigningMethodEdDSA, k.private, "", good(change))
	}
	public := k.private.Public().(ed25519.PublicKey)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	signed := eddsa(nil)
	parts := strings.Split(signed, ".")
	raw := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for name, token := range map[string]string{
		"nothing":                       "",
		"words":                         "not a token",
		"dots":                          "..",
		"endless":                       strings.Repeat("a", 9000),
		"algorithm none":                sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", good(nil)),
		"none with a signature":         raw(`{"alg":"none"}`) + "." + parts[1] + "." + parts[2],
		"None":                          raw(`{"alg":"None"}`) + "." + parts[1] + ".",
		"public key as a shared secret": sign(t, jwt.SigningMethodHS256, []byte(public), "", good(nil)),
		"its DER as a shared secret":    sign(t, jwt.SigningMethodHS256, der, "", good(nil)),
		"another algorithm's name":      raw(`{"alg":"RS256"}`) + "." + parts[1] + "." + parts[2],
		"changed claims":                parts[0] + "." + raw(`{"sub":"kim","role":"admin","exp":9999999999}`) + "." + parts[2],
		"another key":                   sign(t, jwt.SigningMethodEdDSA, localKey(t).private, "", good(nil)),
		"no exp":                        eddsa(func(c jwt.MapClaims) { delete(c, "exp") }),
		"exp as text":                   eddsa(func(c jwt.MapClaims) { c["exp"] = "tomorrow" }),
		"expired beyond the leeway":     eddsa(func(c jwt.MapClaims) { c["exp"] = now.Add(-7 * time.Second).Unix() }),
		"not valid yet":                 eddsa(func(c jwt.MapClaims) { c["nbf"] = now.Add(time.Minute).Unix() }),
		"no sub":                        eddsa(func(c jwt.MapClaims) { delete(c, "sub") }),
		"sub of a number":               eddsa(func(c jwt.MapClaims) { c["sub"] = 7 }),
		"sub too long":                  eddsa(func(c jwt.MapClaims) { c["sub"] = strings.Repeat("x", 129) }),
		"sub not ASCII":                 eddsa(func(c jwt.MapClaims) { c["sub"] = "김" }),
		"sub with a line feed":          eddsa(func(c jwt.MapClaims) { c["sub"] = "a\nb" }),
		"no role":                       eddsa(func(c jwt.MapClaims) { delete(c, "role") }),
		"role of the system":            eddsa(func(c jwt.MapClaims) { c["role"] = "system" }),
		"several roles":                 eddsa(func(c jwt.MapClaims) { c["role"] = []string{"customer", "admin"} }),
		"groomer with capitals":         eddsa(func(c jwt.MapClaims) { c["role"], c["sub"] = "groomer", "Mong" }),
		"groomer too long":              eddsa(func(c jwt.MapClaims) { c["role"], c["sub"] = "groomer", strings.Repeat("m", 41) }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if id, err := k.Verifier().Verify(t.Context(), token); !errors.Is(err, ErrInvalid) {
				t.Errorf("got %+v, %v", id, err)
			}
		})
	}
	if _, err := k.Verifier().Verify(t.Context(), eddsa(func(c jwt.MapClaims) { c["exp"] = now.Add(-2 * time.Second).Unix() })); err != nil {
		t.Errorf("within the leeway: %v", err)
	}
}

func TestARememberedTokenEndsWithItsExpiry(t *testing.T) {
	t.Parallel()
	k := localKey(t)
	v := k.Verifier()
	now := time.Now()
	v.now = func() time.Time { return now }
	token, err := k.Mint("kim", "customer", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute + Leeway + time.Second)
	if _, err := v.Verify(t.Context(), token); !errors.Is(err, ErrInvalid) {
		t.Errorf("an expired token lives on in the cache: %v", err)
	}
}

func TestTheCacheOfTokensIsBounded(t *testing.T) {
	t.Parallel()
	v := localKey(t).Verifier()
	now := time.Now()
	for i := range maxCached + 100 {
		v.remember([32]byte{byte(i), byte(i >> 8), byte(i >> 16)}, Identity{Expires: now.Add(time.Hour)}, now)
	}
	if len(v.known) > maxCached {
		t.Errorf("%d tokens kept", len(v.known))
	}
}

// issuer serves a key set, and counts how often it is asked.
type issuer struct {
	*httptest.Server
	key     *rsa.PrivateKey
	fetches atomic.Int64
	down    atomic.Bool
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q,"authorization_endpoint":"x","token_endpoint":"x"}`, i.URL, i.URL+"/keys")
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, r *http.Request) {
		i.fetches.Add(1)
		if i.down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "RS256", Use: "sig"}}})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) token(t *testing.T, kid string, change func(jwt.MapClaims)) string {
	c := jwt.MapClaims{"iss": i.URL, "sub": "kim", "role": "customer", "exp": time.Now().Add(time.Hour).Unix(), "aud": "salon"}
	if change != nil {
		change(c)
	}
	return sign(t, jwt.SigningMethodRS256, i.key, kid, c)
}

func TestKeysComeFromAKeySetOrAnIssuer(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	byIssuer, err := FromIssuer(t.Context(), i.URL, "salon")
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]*Verifier{"key set": FromJWKS(i.URL+"/keys", ""), "issuer": byIssuer} {
		if id, err := v.Verify(t.Context(), i.token(t, "one", nil)); err != nil || id.Sub != "kim" {
			t.Errorf("%s: got %+v, %v", name, id, err)
		}
	}
	for name, change := range map[string]func(jwt.MapClaims){
		"another issuer":   func(c jwt.MapClaims) { c["iss"] = "https://elsewhere" },
		"another audience": func(c jwt.MapClaims) { c["aud"] = "elsewhere" },
	} {
		if _, err := byIssuer.Verify(t.Context(), i.token(t, "one", change)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := FromIssuer(t.Context(), i.URL+"/nowhere", ""); err == nil {
		t.Error("an issuer that does not exist was discovered")
	}
}

func TestUnknownKeysDoNotFloodTheIssuer(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	v := FromJWKS(i.URL+"/keys", "")
	for n := range 50 {
		if _, err := v.Verify(t.Context(), i.token(t, fmt.Sprint("made-up-", n), nil)); !errors.Is(err, ErrInvalid) {
			t.Fatalf("got %v", err)
		}
	}
	if n := i.fetches.Load(); n > 4 {
		t.Errorf("%d fetches for 50 unknown keys", n)
	}
	if _, err := v.Verify(t.Context(), i.token(t, "one", nil)); err != nil {
		t.Errorf("a known key is refused meanwhile: %v", err)
	}
}

func TestAnIssuerThatIsAwayIsNotTheCallersFault(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.down.Store(true)
	v := FromJWKS(i.URL+"/keys", "")
	for range 10 {
		_, err := v.Verify(t.Context(), i.token(t, "one", nil))
		var p *problem.Problem
		if !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable {
			t.Fatalf("got %v, want 503", err)
		}
	}
}

func TestAKeyFileIsNeverReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "jwt.pem")
	if err := GenerateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	if err := GenerateKeyFile(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkVerifyKnownToken(b *testing.B) {
	k := localKey(b)
	v := k.Verifier()
	token, err := k.Mint("kim", "customer", time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := v.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}
