package sessions

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// Rate bounds how often something is done: Burst times at once, and PerSecond times a second in the
// long run. PerSecond 0: no limit.
type Rate struct{ PerSecond, Burst int }

func (r Rate) ok() bool { return r.PerSecond == 0 || r.PerSecond > 0 && r.Burst > 0 }

// RateError refuses a refresh, or another call of a client, that comes too soon after others. It was
// not judged: the error says nothing about the session, and the client keeps what it has.
type RateError struct{ RetryAfter time.Duration }

func (e *RateError) Error() string {
	return fmt.Sprintf("asked more often than allowed; wait %s", e.RetryAfter)
}

// ratesMax bounds the memory of each kind of rate to some 15 MB. The key that was idle for longest
// is forgotten, and then starts with a full burst.
const ratesMax = 1 << 16

// rates is one Rate for each key, in this process's memory.
type rates[K comparable] struct {
	Rate

	each *otter.Cache[K, *counted] // nil: no limit
}

// counted is what is known of a key.
type counted struct {
	*rate.Limiter

	noChildBefore atomic.Int64 // in µs; of a refresh token
}

// remember keeps the time before which R4 issues no child of a refresh token.
func (c *counted) remember(noChildBefore time.Time) {
	if c != nil {
		c.noChildBefore.Store(noChildBefore.UnixMicro())
	}
}

// remembered is the time that was kept; a long past one if there is none.
func (c *counted) remembered() time.Time {
	if c == nil {
		return time.Time{}
	}
	return time.UnixMicro(c.noChildBefore.Load())
}

func newRates[K comparable](r Rate) (rates[K], error) {
	if r.PerSecond == 0 {
		return rates[K]{}, nil
	}
	// A key that was idle for this long has its whole burst again, as if it were unknown.
	full := time.Duration(r.Burst/r.PerSecond+1) * time.Second
	each, err := otter.New(&otter.Options[K, *counted]{MaximumSize: ratesMax, ExpiryCalculator: otter.ExpiryAccessing[K, *counted](full)})
	if err != nil {
		return rates[K]{}, fmt.Errorf("making a cache of rates: %w", err)
	}
	return rates[K]{r, each}, nil
}

// take counts one more for key, or says how long to wait. It returns what is known of the key; nil
// without a limit.
func (r rates[K]) take(key K, now time.Time) (*counted, error) {
	if r.each == nil {
		return nil, nil //nolint:nilnil // nothing is counted
	}
	limiter, _ := r.each.ComputeIfAbsent(key, func() (*counted, bool) {
		return &counted{Limiter: rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst)}, false
	})
	if limiter == nil || limiter.AllowN(now, 1) {
		return limiter, nil
	}
	// A reservation that is canceled would take from the others what it had reserved.
	missing := max(0, 1-limiter.TokensAt(now))
	return nil, &RateError{RetryAfter: time.Duration(missing / float64(r.PerSecond) * float64(time.Second))}
}

// spent says whether take would refuse the next one for key.
func (r rates[K]) spent(key K, now time.Time) bool {
	if r.each == nil {
		return false
	}
	limiter, known := r.each.GetIfPresent(key)
	return known && limiter.TokensAt(now) < 1
}

// sender is the key by which addresses are counted: the network, and whether the token opens. An
// attacker who floods with invented tokens must not lock out the neighbours in the same network.
type sender struct {
	network netip.Prefix
	opens   bool
}

// AdmitRefresh counts a refresh from an address. It returns a [RateError] if the network of the
// address (/24 or /64) sent too many. A refresh whose own token is used too often is not counted
// here: [Engine.Refresh] refuses it, and its neighbours are not affected. An invalid address is not
// counted: all clients would share its limit.
func (e *Engine) AdmitRefresh(from netip.Addr, by Transport, tokens []string) error {
	network, ok := networkOf(from)
	if !ok || e.perAddress.each == nil || !e.Ready() { // no limit applies, so no token is opened
		return nil
	}
	began := e.cfg.Now()
	t, err := e.openRefresh(by, tokens)
	if err == nil && e.perSession.spent(t.hash(), began) {
		return nil
	}
	_, err = e.perAddress.take(sender{network, err == nil}, began)
	if err != nil {
		e.cfg.Observe(Event{Kind: EventRefreshAnswered, Err: err, Took: e.cfg.Now().Sub(began)})
	}
	return err
}
