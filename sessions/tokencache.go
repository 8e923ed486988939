package sessions

import (
	"hash/maphash"
	"strings"

	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"
)

// tokenCache has tokens that were verified, by their names. It is safe for concurrent use.
//
// It finds a token by a hash with a secret seed, and then compares the whole name: a token that only
// has the hash of another one is not in the cache. SHA-256, which would need no comparison, costs
// ten times as much.
type tokenCache struct {
	seed    maphash.Seed
	entries *otter.Cache[uint64, *verified]
}

func newTokenCache(size int) (tokenCache, error) {
	entries, err := otter.New(&otter.Options[uint64, *verified]{MaximumSize: size, StatsRecorder: stats.NewCounter()})
	return tokenCache{maphash.MakeSeed(), entries}, err
}

// get is the token with a name, or nil. What a deleted key signed is removed.
func (c tokenCache) get(name string) *verified {
	hash := maphash.String(c.seed, name)
	v, ok := c.entries.GetIfPresent(hash)
	switch {
	case !ok, v.name != name:
		return nil
	case v.key.deleted.Load():
		c.entries.Invalidate(hash)
		return nil
	default:
		return v
	}
}

// keep puts v into the cache, and returns what the cache then has by that name. It keeps a copy of
// the name, which may be a part of a request.
func (c tokenCache) keep(name string, v *verified) *verified {
	v.name = strings.Clone(name)
	kept, _ := c.entries.SetIfAbsent(maphash.String(c.seed, name), v)
	if kept.name != name { // another token has the hash
		return v
	}
	return kept
}
