package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// client calls the HTTP API as one person. It keeps the Consistency-Token of its last write, so what it reads has it.
type client struct {
	url   string
	token string
	http  *http.Client
	seen  string // Consistency-Token
	wait  int    // seconds that an answer may take to contain what was seen; 0: what the system has for that
}

func newClient(url, token string) *client {
	return &client{url: strings.TrimSuffix(url, "/"), token: token, http: &http.Client{Timeout: 35 * time.Second}}
}

// answer is a response, its body read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) decode(into any) error { return json.Unmarshal(a.body, into) }

// call sends one request; key is its Idempotency-Key, "" for none. Any status is an answer, not an error.
func (c *client) call(ctx context.Context, method, path, key string, body any) (answer, error) {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		content = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, content)
	if err != nil {
		return answer{}, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	if method == http.MethodGet && c.seen != "" {
		r.Header.Set("Consistency-Token", c.seen)
		if c.wait > 0 {
			r.Header.Set("Prefer", fmt.Sprintf("wait=%d", c.wait))
		}
	}
	res, err := c.http.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	if t := res.Header.Get("Consistency-Token"); t != "" {
		c.seen = t
	}
	return answer{res.StatusCode, res.Header, b}, nil
}

// must is call, where anything but a success is an error that shows the problem's code.
func (c *client) must(ctx context.Context, method, path, key string, body, into any) (answer, error) {
	a, err := c.call(ctx, method, path, key, body)
	if err != nil {
		return a, err
	}
	if a.status >= 300 {
		var p struct{ Code, Detail string }
		_ = a.decode(&p)
		return a, fmt.Errorf("%s %s: %d %s: %s", method, path, a.status, p.Code, p.Detail)
	}
	if into != nil {
		if err := a.decode(into); err != nil {
			return a, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	return a, nil
}
