package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// newRedis is a client of a Redis that may be away: nothing connects yet. The URL is
//
//	redis://USER:PASSWORD@HOST:PORT/DB, or rediss:// over TLS
//	redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/MASTER/DB?sentinel_username=…&sentinel_password=…, or rediss+sentinel://
//
// In the second form the hosts are sentinels, which tell who is the master; user and password are those of the master.
// Errors do not repeat the URL: it may hold a password.
func newRedis(address string) (*redis.Client, error) {
	// A view that is away must cost a read little: the tables behind it answer then. And a screen gives a view less time
	// than that.
	const dial, read, retries, contexts = time.Second, 2 * time.Second, 1, true
	if !strings.HasPrefix(address, "redis+sentinel:") && !strings.HasPrefix(address, "rediss+sentinel:") {
		o, err := redis.ParseURL(address)
		if err != nil {
			return nil, errors.New("--redis is not a valid redis:// URL")
		}
		o.DialTimeout, o.ReadTimeout, o.MaxRetries, o.ContextTimeoutEnabled = dial, read, retries, contexts
		return redis.NewClient(o), nil
	}
	o, err := sentinels(address)
	if err != nil {
		return nil, err
	}
	o.DialTimeout, o.ReadTimeout, o.MaxRetries, o.ContextTimeoutEnabled = dial, read, retries, contexts
	return redis.NewFailoverClient(o), nil
}

func sentinels(address string) (*redis.FailoverOptions, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("--redis is not a valid redis+sentinel:// URL")
	}
	o := &redis.FailoverOptions{SentinelAddrs: strings.Split(u.Host, ","), Username: u.User.Username()}
	o.Password, _ = u.User.Password()
	for i, host := range o.SentinelAddrs {
		if host == "" {
			return nil, errors.New("--redis: the name of a sentinel is empty")
		}
		if !strings.Contains(host, ":") {
			o.SentinelAddrs[i] = host + ":26379"
		}
	}
	master, db, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	o.MasterName = master
	if o.DB, err = strconv.Atoi("0" + db); err != nil || master == "" {
		return nil, errors.New("--redis: want redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB")
	}
	for name, values := range u.Query() {
		switch name {
		case "sentinel_username":
			o.SentinelUsername = values[0]
		case "sentinel_password":
			o.SentinelPassword = values[0]
		default:
			return nil, fmt.Errorf("--redis: %q is unknown; a URL of sentinels takes sentinel_username and sentinel_password", name)
		}
	}
	if u.Scheme == "rediss+sentinel" {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return o, nil
}
