package live

import (
	"context"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/internal/harness"
)

// twoNodes are gateways on one Redis, each through a proxy of its own when there is one, in a hurry.
func twoNodes(t *testing.T, r *rooms, url string, proxied bool) (nodes [2]*served, proxies [2]*harness.Proxy) {
	t.Helper()
	for n := range nodes {
		at := url
		if proxied {
			at, proxies[n] = harness.Through(t, url)
		}
		nodes[n] = r.serve(t, func(c *Config) {
			options, err := redis.ParseURL(at)
			if err != nil {
				t.Fatal(err)
			}
			options.DialTimeout, options.MaxRetries, options.ContextTimeoutEnabled = time.Second, 1, true
			c.Redis, c.TopicPrefix = redis.NewClient(options), "test."
			t.Cleanup(func() { _ = c.Redis.Close() })
			c.hurry, c.FrameRate = 20, 10_000
		})
	}
	return nodes, proxies
}

func TestWhoIsThereAndWhoTypesIsToldOnEveryNode(t *testing.T) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		twoPeople(t, "redis://"+miniredis.RunT(t).Addr())
	})
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		harness.NeedsServers(t)
		twoPeople(t, harness.Redis(t))
	})
}

func twoPeople(t *testing.T, url string) {
	r := newRooms()
	nodes, _ := twoNodes(t, r, url, false)
	kim := nodes[0].dial("groomer:kim")
	kim.subscribe(kims, 0)
	kim.hears("subscribed 0", "presence c1 false")
	c1 := nodes[1].dial("customer:c1")
	c1.subscribe(kims, 0)
	c1.hears("subscribed 0", "presence kim true")
	kim.hears("presence c1 true")

	for range 10 { // the first counts
		c1.say(`{"type":"typing","room_id":%q}`, kims)
	}
	c1.still()
	kim.hears("typing c1")
	r.say(kims, "customer", "c1", "typed")
	kim.hears("message 1")
	c1.hears("message 1")

	// A second socket on another node: to lose one of them is no news, to lose both is.
	again := nodes[0].dial("customer:c1")
	again.subscribe(kims, 1)
	again.hears("subscribed 1", "presence kim true")
	_ = c1.CloseNow()
	_ = again.CloseNow()
	kim.hears("presence c1 false")
	kim.still()

	// What was kept is for a while only, and under the prefix.
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(options)
	defer c.Close()
	keys, err := c.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) != 1 || keys[0] != "test.live:"+kims {
		t.Fatalf("%v, %v", keys, err)
	}
	if ttl := c.PTTL(t.Context(), keys[0]).Val(); ttl <= 0 {
		t.Errorf("%s is kept for %v", keys[0], ttl)
	}
}

func TestChatGoesOnWithoutRedisAndPresenceComesBack(t *testing.T) {
	t.Parallel()
	harness.NeedsServers(t)
	for name, take := range map[string][2]func(*harness.Proxy){
		"refused": {(*harness.Proxy).Cut, func(p *harness.Proxy) { p.Restore(t) }},
		"silent":  {(*harness.Proxy).Freeze, (*harness.Proxy).Thaw},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRooms()
			nodes, proxies := twoNodes(t, r, harness.Redis(t), true)
			kim, c1 := nodes[0].dial("groomer:kim"), nodes[1].dial("customer:c1")
			kim.subscribe(kims, 0)
			kim.hears("subscribed 0", "presence c1 false")
			c1.subscribe(kims, 0)
			c1.hears("subscribed 0", "presence kim true")
			kim.hears("presence c1 true")

			take[0](proxies[1])
			for n := range uint64(300) { // far more than what may wait to be published
				c1.say(`{"type":"typing","room_id":%q}`, kims)
				if n%10 == 0 {
					r.say(kims, "customer", "c1", "hello")
				}
			}
			c1.hearsAtLast("message 30")
			kim.hears("message 1")
			kim.hearsAtLast("presence c1 false") // what node 2 said has expired
			take[1](proxies[1])
			kim.hearsAtLast("presence c1 true") // what was said into the silence may come first
			c1.say(`{"type":"typing","room_id":%q}`, kims)
			kim.hearsAtLast("typing c1")
		})
	}
}

// TestANodeThatDiedIsSeenGone: nobody takes back what it said.
func TestANodeThatDiedIsSeenGone(t *testing.T) {
	t.Parallel()
	harness.NeedsServers(t)
	url := harness.Redis(t)
	r := newRooms()
	nodes, _ := twoNodes(t, r, url, false)
	kim := nodes[0].dial("groomer:kim")
	kim.subscribe(kims, 0)
	kim.hears("subscribed 0", "presence c1 false")
	dead := newEphemeral(newHub(bounds{10, 1 << 20, 10}), nodes[0].cfg.Redis, "test.", 20, nodes[0].log)
	s := &socket{side: customerSide, woken: make(chan struct{}, 1), subs: map[string]*subscription{}}
	room, err := dead.hub.enter(kims, 0, func() (Membership, error) { return Membership{GroomerID: "kim"}, nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := dead.hub.attach(room, s, 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := dead.setClock(ctx); err != nil {
		t.Fatal(err)
	}
	if err := dead.look(ctx); err != nil { // and no more is heard of it
		t.Fatal(err)
	}
	kim.hears("presence c1 true", "presence c1 false")
}
