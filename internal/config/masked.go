package config

import "strings"

// mask stands where a secret stood.
const mask = "***"

// Masked is a setting's value as it may be shown: without the password and the secret parameters of a URL, and of an address
// that is a secret as a whole (a webhook's), its host alone. Where it is not clear where a secret ends, more is masked.
func Masked(flag, value string) string {
	scheme, rest, isURL := strings.Cut(value, "://")
	if !isURL {
		if strings.Contains(strings.ToLower(value), "password") {
			return mask
		}
		return value
	}
	if flag == "notify-webhook" {
		host, path, _ := strings.Cut(rest, "/")
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			return scheme + "://" + mask
		}
		if path == "" {
			return scheme + "://" + host
		}
		return scheme + "://" + host + "/" + mask
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, _, secret := strings.Cut(rest[:at], ":")
		if strings.ContainsAny(user, "/?#") { // not a user: an @ somewhere in what follows the host
			return scheme + "://" + mask
		}
		if secret {
			user += ":" + mask
		}
		rest = user + rest[at:]
	}
	where, query, _ := strings.Cut(rest, "?")
	if query == "" {
		return scheme + "://" + rest
	}
	parameters := strings.Split(query, "&")
	for i, p := range parameters {
		name, _, _ := strings.Cut(p, "=")
		if lower := strings.ToLower(name); strings.Contains(lower, "pass") || strings.Contains(lower, "secret") || strings.Contains(lower, "token") || strings.Contains(lower, "key") {
			parameters[i] = name + "=" + mask
		}
	}
	return scheme + "://" + where + "?" + strings.Join(parameters, "&")
}
