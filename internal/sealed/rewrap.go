package sealed

import (
	"context"
	"fmt"

	"github.com/dangdangsalon/salon/eventstore"
)

// Rewrap wraps every person's key that is not wrapped under the first master key under it, and tells of each key whether it
// was one. What it has done stays when it ends early; called again, it goes on. When it finds nothing more to do, and nobody
// wraps under another master key any more, the others may go.
func (k *Keys) Rewrap(ctx context.Context, store eventstore.Persons, told func(rewrapped bool)) error {
	for key, err := range store.PersonKeys(ctx) {
		if err != nil {
			return fmt.Errorf("rewrap keys: %w", err)
		}
		name := keyName{key.Subject, key.KeyID}
		raw, under, err := k.raw(name, key.Wrapped)
		if err != nil {
			return fmt.Errorf("rewrap keys: %w", err)
		}
		rewrapped := false
		if under > 0 {
			// Not when it was erased meanwhile, or somebody else has wrapped it.
			if rewrapped, err = store.RewrapPersonKey(ctx, key, seal(k.masters[0], name, raw)); err != nil {
				return fmt.Errorf("rewrap keys: %w", err)
			}
		}
		told(rewrapped)
	}
	return nil
}
