// Package auth decides who a caller is: it verifies bearer tokens (JWT) against a key set URL, an OIDC issuer or a
// local Ed25519 key, and mints tokens with that local key.
//
// It promises that a role comes from a verified token and from nowhere else, that a token without an expiry, with the
// algorithm "none" or signed by a key of another kind is refused, and that unknown tokens cannot make this process
// fetch keys faster than once in a few seconds.
package auth
