package groomer

import "slices"

// What may stand in a menu.
const (
	maxItemMinutes = 12 * 60
	maxItemKRW     = 100_000_000
	maxDogs        = 5
)

// Services and sizes, in the order of the contract.
func knownService(s string) bool {
	return slices.Contains([]string{"bath", "trim", "full_clip", "scissor_cut", "nails", "skin", "teeth", "ears"}, s)
}
func knownSize(s string) bool { return slices.Contains([]string{"small", "medium", "large"}, s) }

func checkMenu(menu []MenuItem) error {
	type key struct{ service, size string }
	seen := map[key]bool{}
	for i, m := range menu {
		k := key{m.Service, m.Size}
		switch {
		case !knownService(m.Service):
			return invalid("menu[%d].service: want one of bath trim full_clip scissor_cut nails skin teeth ears", i)
		case !knownSize(m.Size):
			return invalid("menu[%d].size: want one of small medium large", i)
		case m.Minutes < 1 || m.Minutes > maxItemMinutes:
			return invalid("menu[%d].minutes: want 1 to %d", i, maxItemMinutes)
		case m.PriceKRW < 0 || m.PriceKRW > maxItemKRW:
			return invalid("menu[%d].price_krw: want 0 to %d", i, maxItemKRW)
		case seen[k]:
			return invalid("menu[%d]: this service and size stand there twice", i)
		}
		seen[k] = true
	}
	return nil
}

// sum is what the dogs take of the menu: minutes and price.
func sum(menu []MenuItem, dogs []Dog) (minutes int, priceKRW int64, err error) {
	if err := checkDogs(dogs); err != nil {
		return 0, 0, err
	}
	for _, d := range dogs {
		for _, s := range d.Services {
			i := slices.IndexFunc(menu, func(m MenuItem) bool { return m.Service == s && m.Size == d.Size })
			if i < 0 {
				return 0, 0, ErrServiceNotOffered
			}
			minutes += menu[i].Minutes
			priceKRW += menu[i].PriceKRW
		}
	}
	return minutes, priceKRW, nil
}

func checkDogs(dogs []Dog) error {
	if len(dogs) < 1 || len(dogs) > maxDogs {
		return invalid("dogs: want 1 to %d", maxDogs)
	}
	for i, d := range dogs {
		if !knownSize(d.Size) {
			return invalid("dogs[%d].size: want one of small medium large", i)
		}
		if len(d.Services) == 0 {
			return invalid("dogs[%d].services: want at least one", i)
		}
		for j, s := range d.Services {
			if !knownService(s) {
				return invalid("dogs[%d].services[%d]: want one of bath trim full_clip scissor_cut nails skin teeth ears", i, j)
			}
			if slices.Contains(d.Services[:j], s) {
				return invalid("dogs[%d].services[%d]: named twice", i, j)
			}
		}
	}
	return nil
}
