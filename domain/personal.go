package domain

// Sealed is a personal text (dog name, visit address, phone, note, reason, message) under its person's key.
//
// Decisions carry it as it is: they never read it. Only HTTP answers and exports open it. The zero value is "not
// given" and is left out of JSON with omitzero. The ciphertext is AES-256-GCM, nonce first, base64 in JSON.
type Sealed struct {
	Subject string `json:"s"` // whose key: Actor.Subject
	KeyID   string `json:"k"`
	Cipher  []byte `json:"c"`
}

// IsZero reports that no text was given.
func (s Sealed) IsZero() bool { return s.Subject == "" && s.KeyID == "" && len(s.Cipher) == 0 }
