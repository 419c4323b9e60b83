package storetest

import (
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dangdangsalon/salon/eventstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func opener(f fault) func(t testing.TB) eventstore.Store {
	return func(t testing.TB) eventstore.Store {
		m := newMemory(f, nil)
		t.Cleanup(func() { _ = m.Close() })
		return m
	}
}

func features(f fault) Features {
	return Features{
		Dense:            f != earlyPositions && f != earlyUnlock, // the hole is not what must give it away
		ChecksExpectedID: true,
		Reopen: func(t testing.TB, s eventstore.Store) eventstore.Store {
			m := s.(*memory).reopen()
			t.Cleanup(func() { _ = m.Close() })
			return m
		},
	}
}

func TestASoundStorePasses(t *testing.T) {
	t.Parallel()
	Run(t, opener(sound), features(sound))
}

// Each fault is caught by the check that names the promise it breaks.
func TestEachFaultIsCaught(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault fault
		check string
	}{
		{earlyPositions, "a follower misses nothing while many write"},
		{earlyUnlock, "a follower misses nothing while many write"},
		{dropsForFollower, "a follower misses nothing while many write"},
		{hashless, "a follower misses nothing while many write"},
		{forgetful, "a command has one effect, whenever it comes again"},
		{revisionFirst, "a command has one effect, whenever it comes again"},
		{forgetful, "a command without events is remembered too"},
		{looksTooEarly, "a command that comes many times at once has one effect"},
		{blind, "an append verifies its expectation"},
		{vague, "an append verifies its expectation"},
		{remembersRefusal, "an append verifies its expectation"},
		{losesUpdates, "each stream answers as if its calls came one after the other"},
		{stale, "each stream answers as if its calls came one after the other"},
		{looksUpLate, "each stream answers as if its calls came one after the other"},
		{forgetful, "each stream answers as if its calls came one after the other"},
		{blind, "each stream answers as if its calls came one after the other"},
		{blind, "many deciders of one stream lose no update"},
		{hashless, "events come back as they were appended"},
		{torn, "a caller who gives up leaves all or nothing"},
		{deaf, "reads and waits end with their context"},
		{leaky, "a loop left early gives everything back"},
		{losesOnClose, "closing under load keeps what was acknowledged"},
		{clockGoesBack, "recorded_at never goes back"},
		{ageless, "a decision has an age"},
		{compacts, "any bytes come back"},
		{folds, "stream names are told apart byte by byte"},
		{unlimited, "limits are refused cleanly"},
		{unlimited, "text that a database refuses hurts its own append alone"},
		{twoKeys, "a person has one key, whoever made it first"},
		{keepsKey, "an erased person has no key, on any instance, and gets another one"},
		{keepsHashes, "an erasure takes what a request could be compared with, and nothing else"},
		{erasesAll, "an erasure takes what a request could be compared with, and nothing else"},
		{staleWrap, "keys are wrapped again while others are added and erased"},
		{sleeper, "waiting ends when there is more"},
		{losesTail, "opened again, everything is as it was"},
		{newLife, "opened again, everything is as it was"},
		{trusting, "an append verifies the event it expects"},
		{offByOne, "a stream is read backwards too"},
		{coarse, "a filter takes what matches and nothing else"},
		{impatient, "what is rare is found between much else"},
		{oneSnapshot, "a snapshot is kept as it was saved"},
	} {
		t.Run(string(c.fault)+"/"+c.check, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(checks(), func(k check) bool { return k.name == c.check })
			if i < 0 {
				t.Fatal("there is no such check")
			}
			f := features(c.fault)
			f.Patience = 10 * time.Second
			if c.fault == sleeper || c.fault == leaky {
				f.Patience = 500 * time.Millisecond // a hang is what gives it away
			}
			err := checks()[i].try(t, opener(c.fault), f)
			if err == nil {
				t.Fatal("the suite did not catch it")
			}
			t.Log(err)
		})
	}
}
