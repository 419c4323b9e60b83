package faulttest

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/internal/harness"
)

// redisFailedOver promotes a replica that lacks its master's last commits, and leaves the master dead.
func (f *fault) redisFailedOver() {
	servers := f.w.servers
	master := servers.redis
	replica := master.Replica(servers.t)
	f.hold(0, s)
	replica.Promote(f.t)
	f.hold(0, s) // what is committed from here on will be lost
	has := scripts(f.w.ctx, replica)
	if err := f.w.until(func() bool { return scripts(f.w.ctx, master) > has }); err != nil {
		f.t.Errorf("the replica is not behind, the fault has shown nothing: %v", err)
	}
	master.Kill()
	for _, m := range f.w.projectors {
		m.redis.Turn(replica.Addr)
	}
	f.w.redis.Turn(replica.Addr)
	servers.redis = replica
}

// scripts counts what projectors have committed in a server.
func scripts(ctx context.Context, server *harness.OwnRedis) (n int64) {
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	for all := client.Scan(ctx, 0, "*:offset", 1000).Iterator(); all.Next(ctx); {
		seq, err := client.HGet(ctx, all.Val(), "seq").Int64()
		if err != nil {
			return 0
		}
		n += seq
	}
	return n
}
