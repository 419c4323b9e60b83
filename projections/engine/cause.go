package engine

import (
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"strings"

	"github.com/dangdangsalon/salon/projections/reads"
)

// foldError is an error of a fold or of an event, as opposed to one of a server: trying again gives it again.
type foldError struct{ error }

func (e *foldError) Unwrap() error { return e.error }

// recordError is a record or a parked key that the engine itself cannot deal with. It does not unwrap: whatever the
// reason, no key is to be blamed for it.
type recordError struct{ err error }

func (e *recordError) Error() string { return e.err.Error() }

// SystemicError says that a partition stopped instead of parking one more key.
type SystemicError struct {
	Topic         string
	Part          int32
	Waiting       int    // keys that are parked
	Lately        int    // of those, parked within the last minute
	Limit         string // the field of Runner that was reached
	Key           string // ordering key that would have been next
	Position      uint64 // of its event
	Cause, Detail string
}

func (e *SystemicError) Error() string {
	return fmt.Sprintf("%s/%d stopped at position %d, whose event fails: %d keys are parked already, %d of them within a minute (%s). "+
		"That many are hardly at fault themselves: mend the release or the database, and the partition goes on by itself; "+
		"or mend the keys, and run `salon projections retry`. Cause: %s",
		e.Topic, e.Part, e.Position, e.Waiting, e.Lately, e.Limit, e.Cause)
}

// poison tells whether an error is of the data: the same event gives it again, and others do not.
func poison(err error) bool {
	var fold *foldError
	return errors.As(err, &fold) || reads.RefusesData(err)
}

// stubborn tells whether an error stays until somebody changes something.
func stubborn(err error) bool {
	var record *recordError
	var systemic *SystemicError
	return errors.As(err, &record) || errors.As(err, &systemic) || poison(err)
}

// caught makes a panic of a projection's code an error with its stack. Deferred.
func caught(err *error) {
	if r := recover(); r != nil {
		*err = &foldError{panicked(r)}
	}
}

func panicked(r any) error { return fmt.Errorf("panic: %v\n%s", r, debug.Stack()) }

const (
	maxCause  = 191     // characters, the column's
	maxDetail = 8 << 10 // bytes: a stack, not a novel
)

// values are what errors quote: a person's words, perhaps. Names of columns, fields and keys stay.
var values = regexp.MustCompile(`((?:column|field|key|constraint) )?('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")`)

func withoutValues(s string) string {
	return values.ReplaceAllStringFunc(s, func(found string) string {
		if found[0] == '\'' || found[0] == '"' {
			return "…"
		}
		return found
	})
}

// describe gives an error as a parked key keeps it: cause is one line, the same for the same fault in other keys.
func describe(eventType string, err error) (cause, detail string) {
	root := err
	for next := errors.Unwrap(root); next != nil; next = errors.Unwrap(root) {
		root = next
	}
	message := clean(withoutValues(root.Error()))
	line, _, _ := strings.Cut(message, "\n")
	cause = eventType + ": " + line
	if runes := []rune(cause); len(runes) > maxCause {
		cause = string(runes[:maxCause-1]) + "…"
	}
	detail = clean(withoutValues(err.Error()))
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "")
	}
	return cause, detail
}

// clean leaves what every column takes.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
