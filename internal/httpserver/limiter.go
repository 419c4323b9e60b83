package httpserver

import (
	"sync"

	"golang.org/x/time/rate"
)

// maxSubjects bounds the limiter's memory. Forgetting somebody only gives them a full bucket again.
const maxSubjects = 50_000

// limiter counts requests per subject. A nil limiter allows everything.
type limiter struct {
	mu       sync.Mutex
	perSec   rate.Limit
	burst    int
	subjects map[string]*rate.Limiter
}

func newLimiter(perSecond float64) *limiter {
	if perSecond <= 0 {
		return nil
	}
	return &limiter{perSec: rate.Limit(perSecond), burst: max(1, int(2*perSecond)), subjects: map[string]*rate.Limiter{}}
}

func (l *limiter) allow(subject string) bool {
	if l == nil {
		return true
	}
	l.mu.Lock()
	bucket, ok := l.subjects[subject]
	if !ok {
		if len(l.subjects) >= maxSubjects {
			l.forgetSome()
		}
		bucket = rate.NewLimiter(l.perSec, l.burst)
		l.subjects[subject] = bucket
	}
	l.mu.Unlock()
	return bucket.Allow()
}

// forgetSome drops who has a full bucket, among a few taken at random by the map's order; at least one goes.
func (l *limiter) forgetSome() {
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
