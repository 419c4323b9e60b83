package auth

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"
)

// LocalKey mints tokens, and verifies them, with one Ed25519 key of our own.
type LocalKey struct{ private ed25519.PrivateKey }

// GenerateKeyFile writes a new key (PKCS #8 PEM, mode 0600). An existing file is left alone and is an error that
// wraps fs.ErrExist.
func GenerateKeyFile(path string) error {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("generate key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return fmt.Errorf("generate key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}

// LoadKeyFile reads a key that GenerateKeyFile wrote.
func LoadKeyFile(path string) (*LocalKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("read key %s: not a PEM file", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", path, err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read key %s: not an Ed25519 key", path)
	}
	return &LocalKey{private}, nil
}

// LoadOrGenerateKeyFile reads the key of path, made first when there is none.
func LoadOrGenerateKeyFile(path string) (*LocalKey, error) {
	if err := GenerateKeyFile(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return LoadKeyFile(path)
}

// Verifier accepts what this key signed, or one of the others, and nothing else. There are others for as long as the key is
// changed.
func (k *LocalKey) Verifier(others ...*LocalKey) *Verifier {
	keys := &oidc.StaticKeySet{PublicKeys: []crypto.PublicKey{k.private.Public()}}
	for _, o := range others {
		keys.PublicKeys = append(keys.PublicKeys, o.private.Public())
	}
	return newVerifier(keys, "", "", nil, oidc.EdDSA)
}

// Mint signs a token for an identity that its own verifier would accept.
func (k *LocalKey) Mint(sub, role string, ttl time.Duration) (string, error) {
	now := time.Now()
	if err := (Identity{Sub: sub, Role: role}).check(); err != nil {
		return "", fmt.Errorf("mint: %w", err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"sub": sub, "role": role, "iat": now.Unix(), "exp": now.Add(ttl).Unix(),
	})
	signed, err := token.SignedString(k.private)
	if err != nil {
		return "", fmt.Errorf("mint: %w", err)
	}
	return signed, nil
}
