package eventstore

// upcasters turn a stored version into the next one, one step each, purely. None is needed yet.
var upcasters = map[string]func(data []byte) (nextType string, next []byte, err error){}

func upcast(eventType string, data []byte) (string, []byte, error) {
	for {
		up, ok := upcasters[eventType]
		if !ok {
			return eventType, data, nil
		}
		var err error
		if eventType, data, err = up(data); err != nil {
			return "", nil, err
		}
	}
}
