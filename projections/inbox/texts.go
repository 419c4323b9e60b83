package inbox

import (
	"fmt"
	"strings"
	"time"
)

// Language is one that notifications are written in.
type Language string

// The languages. Korean is the salon's own, and the default everywhere.
const (
	Korean  Language = "ko"
	English Language = "en"
)

// sentence is what a notification says. A kind that means another thing to a groomer has a second one.
type sentence struct{ ko, en string }

// sentences are by kind and, where they differ, kind and the receiver's role. {when} is the visit's start, {dogs} how
// many come.
var sentences = map[string]sentence{
	Requested:              {"예약 요청: {when}, {dogs}", "Booking requested: {when}, {dogs}"},
	Confirmed:              {"예약이 확정되었어요: {when}", "Your booking is confirmed: {when}"},
	Confirmed + " groomer": {"새 예약이 들어왔어요: {when}, {dogs}", "New booking: {when}, {dogs}"},
	Moved:                  {"예약 시간이 바뀌었어요: {when}", "A booking was moved to {when}"},
	Declined:               {"예약 요청이 거절되었어요: {when}", "Your booking request was declined: {when}"},
	Expired:                {"예약 요청이 답변 없이 만료되었어요: {when}", "A booking request expired without an answer: {when}"},
	Cancelled:              {"예약이 취소되었어요: {when}", "A booking was cancelled: {when}"},
	Reminder:               {"곧 예약이 있어요: {when}", "Coming up: {when}"},
	Reminder + " groomer":  {"곧 예약이 있어요: {when}, {dogs}", "Coming up: {when}, {dogs}"},
	Message:                {"새 메시지가 있어요", "You have a new message"},
}

// Text is the notification as its receiver reads it.
func (r Row) Text(l Language) string {
	role, _, _ := strings.Cut(r.Receiver, ":")
	s, ok := sentences[r.Kind+" "+role]
	if !ok {
		s = sentences[r.Kind]
	}
	if l == English {
		return strings.NewReplacer("{when}", r.when(l), "{dogs}", count(r.Dogs, "dog")).Replace(s.en)
	}
	return strings.NewReplacer("{when}", r.when(l), "{dogs}", fmt.Sprintf("%d마리", r.Dogs)).Replace(s.ko)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

var weekdays = [...]string{"일", "월", "화", "수", "목", "금", "토"}

// when is the visit's start on the salon's clock.
func (r Row) when(l Language) string {
	zone, err := time.LoadLocation(r.Zone)
	if err != nil { // an IANA name that this machine's table lacks: a time with its offset is still true
		zone = time.UTC
	}
	at := r.StartAt.In(zone)
	if l == English {
		return at.Format("Mon 2 Jan 15:04")
	}
	return fmt.Sprintf("%d월 %d일(%s) %s", at.Month(), at.Day(), weekdays[at.Weekday()], at.Format("15:04"))
}
