package commands

import (
	"errors"
	"strconv"
	"strings"

	"github.com/dangdangsalon/salon/domain"
)

// revisions are those an If-Match header allows; nil allows all.
type revisions []uint64

// parseIfMatch reads "7", "7", "8" or *.
func parseIfMatch(header string) (revisions, error) {
	header = strings.TrimSpace(header)
	if header == "" || header == "*" {
		return nil, nil
	}
	var allowed revisions
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.TrimSpace(tag)
		if len(tag) < 3 || tag[0] != '"' || tag[len(tag)-1] != '"' {
			return nil, errors.New(`expected an ETag as it was answered: "7"`)
		}
		n, err := strconv.ParseUint(tag[1:len(tag)-1], 10, 63)
		if err != nil {
			return nil, errors.New(`expected an ETag as it was answered: "7"`)
		}
		allowed = append(allowed, n)
	}
	return allowed, nil
}

// check refuses a decision on a revision that the caller has not seen.
func (r revisions) check(now uint64) error {
	if r == nil {
		return nil
	}
	for _, n := range r {
		if n == now {
			return nil
		}
	}
	return domain.Refuse("revision.stale", "it has changed: its revision is %d", now)
}

func etag(revision uint64) string { return `"` + strconv.FormatUint(revision, 10) + `"` }
