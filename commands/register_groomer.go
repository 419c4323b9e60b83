package commands

import "github.com/danielgtaylor/huma/v2"

// RegisterGroomer opens a groomer's book, or replaces what it says. What is booked stays as it was.
type RegisterGroomer struct {
	Name                  string         `json:"name" minLength:"1" maxLength:"50" pattern:"^[^\\x00-\\x1f\\x7f]+$"`
	Address               string         `json:"address" minLength:"1" maxLength:"200" pattern:"^[^\\x00-\\x1f\\x7f]+$"`
	Areas                 []Area         `json:"areas" minItems:"1" maxItems:"20" uniqueItems:"true" nullable:"false"`
	Modes                 []string       `json:"modes" minItems:"1" maxItems:"2" uniqueItems:"true" nullable:"false" enum:"shop,visit"`
	Zone                  string         `json:"zone,omitempty" maxLength:"64" default:"Asia/Seoul" doc:"IANA; fixed once the groomer exists"`
	Menu                  []MenuEntry    `json:"menu" minItems:"1" maxItems:"24" nullable:"false"`
	Hours                 []OpeningHours `json:"hours" maxItems:"28" nullable:"false"`
	BufferMinutes         int            `json:"buffer_minutes,omitempty" minimum:"0" maximum:"240" doc:"Kept free after each visit"`
	MinNoticeMinutes      int            `json:"min_notice_minutes,omitempty" minimum:"0" maximum:"43200"`
	HorizonDays           int            `json:"horizon_days,omitempty" minimum:"1" maximum:"365" default:"60"`
	Booking               string         `json:"booking" enum:"instant,request"`
	RequestExpiresMinutes int            `json:"request_expires_minutes,omitempty" minimum:"1" maximum:"43200" default:"1440"`
	Cancellation          []CancelTier   `json:"cancellation,omitempty" maxItems:"10" nullable:"false"`
}

// Area is a place as a path from the large to the small.
type Area string

// Schema is for huma.
func (Area) Schema(huma.Registry) *huma.Schema {
	most := 100
	return &huma.Schema{
		Type: huma.TypeString, MaxLength: &most, Pattern: `^[a-z0-9-]+(/[a-z0-9-]+){0,4}$`,
		PatternDescription: "lower-case letters, digits and hyphens, up to five parts joined by /", Examples: []any{"seoul/gangnam-gu"},
	}
}

// MenuEntry is one service for one size of dog.
type MenuEntry struct {
	Service  string `json:"service" enum:"bath,trim,full_clip,scissor_cut,nails,skin,teeth,ears"`
	Size     string `json:"size" enum:"small,medium,large"`
	Minutes  int    `json:"minutes" minimum:"1" maximum:"720"`
	PriceKRW int64  `json:"price_krw" minimum:"0" maximum:"100000000"`
}

// OpeningHours is one opening on one weekday, wall clock in the groomer's zone.
type OpeningHours struct {
	Weekday string       `json:"weekday" enum:"mon,tue,wed,thu,fri,sat,sun"`
	Opens   string       `json:"opens" pattern:"^([01][0-9]|2[0-3]):[0-5][0-9]$" example:"10:00"`
	Closes  string       `json:"closes" pattern:"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$" example:"19:00"`
	Breaks  []ShortBreak `json:"breaks,omitempty" maxItems:"6" nullable:"false"`
}

// ShortBreak is a pause within the hours.
type ShortBreak struct {
	From string `json:"from" pattern:"^([01][0-9]|2[0-3]):[0-5][0-9]$"`
	To   string `json:"to" pattern:"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"`
}

// CancelTier refunds so much of the price when at least so many hours are left.
type CancelTier struct {
	HoursBefore   int `json:"hours_before" minimum:"0" maximum:"8760"`
	RefundPercent int `json:"refund_percent" minimum:"0" maximum:"100"`
}
