// Package ratelimit counts what subjects do in this process, so that none of them takes what is everybody's. Its memory is
// bounded, however many subjects make themselves up.
package ratelimit

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxSubjects bounds a limiter's memory. Forgetting somebody only gives them a full bucket again.
const maxSubjects = 50_000

// Limiter holds a bucket for each subject. A nil one allows everything. Safe for concurrent use.
type Limiter struct {
	mu       sync.Mutex
	perSec   rate.Limit
	burst    int
	subjects map[string]*rate.Limiter
}

// New makes a limiter of so many a second for each subject, with bursts of twice as many. 0 or less is no limit: nil.
func New(perSecond float64) *Limiter {
	if !(perSecond > 0) { // NaN as well
		return nil
	}
	burst := int(min(max(1, 2*perSecond), math.MaxInt32))
	return &Limiter{perSec: rate.Limit(perSecond), burst: burst, subjects: map[string]*rate.Limiter{}}
}

// Take takes one out of the subject's bucket. When it is empty it takes none, and wait is the time until there is one.
func (l *Limiter) Take(subject string) (wait time.Duration, ok bool) {
	if l == nil {
		return 0, true
	}
	bucket := l.bucket(subject)
	if bucket.Allow() {
		return 0, true
	}
	missing := max(0, 1-bucket.Tokens()) / float64(l.perSec)
	return time.Duration(min(missing, math.MaxInt32) * float64(time.Second)), false
}

func (l *Limiter) bucket(subject string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	bucket, ok := l.subjects[subject]
	if !ok {
		if len(l.subjects) >= maxSubjects {
			l.forgetSome()
		}
		bucket = rate.NewLimiter(l.perSec, l.burst)
		l.subjects[subject] = bucket
	}
	return bucket
}

// forgetSome drops who has a full bucket, among a few taken at random by the map's order; at least one goes.
func (l *Limiter) forgetSome() {
	seen, last := 0, ""
	for subject, bucket := range l.subjects {
		if bucket.Tokens() >= float64(l.burst) {
			delete(l.subjects, subject)
		}
		last = subject
		if seen++; seen == 1000 {
			break
		}
	}
	if len(l.subjects) >= maxSubjects {
		delete(l.subjects, last)
	}
}
