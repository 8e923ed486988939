package sessions

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// Rate bounds how often something is done: Burst times at once, and PerSecond in
// the long run. PerSecond 0: as often as anybody likes.
type Rate struct{ PerSecond, Burst int }

func (r Rate) ok() bool { return r.PerSecond == 0 || r.PerSecond > 0 && r.Burst > 0 }

// RateError refuses a refresh that comes too soon after others. It was not looked
// at, so it says nothing of the session: what the client has stays as it is.
type RateError struct{ RetryAfter time.Duration }

func (e *RateError) Error() string {
	return fmt.Sprintf("refreshed more often than allowed; wait %s", e.RetryAfter)
}

// ratesMax bounds the memory of each kind of rate, some 15 MB: whoever did nothing
// for longest is forgotten, and may begin with a full burst.
const ratesMax = 1 << 16

// rates are one Rate for each key, in this process's memory.
type rates[K comparable] struct {
	Rate

	each *otter.Cache[K, *rate.Limiter] // nil: no bound
}

func newRates[K comparable](r Rate) (rates[K], error) {
	if r.PerSecond == 0 {
		return rates[K]{}, nil
	}
	// Who did nothing for so long has the whole burst again, as if nobody knew him.
	full := time.Duration(r.Burst/r.PerSecond+1) * time.Second
	each, err := otter.New(&otter.Options[K, *rate.Limiter]{MaximumSize: ratesMax, ExpiryCalculator: otter.ExpiryAccessing[K, *rate.Limiter](full)})
	if err != nil {
		return rates[K]{}, fmt.Errorf("making a cache of rates: %w", err)
	}
	return rates[K]{r, each}, nil
}

// take counts one more by key, or says how long to wait.
func (r rates[K]) take(key K, now time.Time) error {
	if r.each == nil {
		return nil
	}
	limiter, _ := r.each.ComputeIfAbsent(key, func() (*rate.Limiter, bool) {
		return rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst), false
	})
	if limiter == nil || limiter.AllowN(now, 1) {
		return nil
	}
	// Not by a reservation that is canceled: that costs the others what it had reserved.
	missing := max(0, 1-limiter.TokensAt(now))
	return &RateError{RetryAfter: time.Duration(missing / float64(r.PerSecond) * float64(time.Second))}
}

// spent says whether take would refuse the next one by key.
func (r rates[K]) spent(key K, now time.Time) bool {
	if r.each == nil {
		return false
	}
	limiter, known := r.each.GetIfPresent(key)
	return known && limiter.TokensAt(now) < 1
}

// sender is who an address is counted as: its network, with tokens that open or without.
// Whoever floods with invented ones is not to keep his neighbours out.
type sender struct {
	network netip.Prefix
	opens   bool
}

// AdmitRefresh counts a refresh that comes from an address, and returns a [RateError]
// where its network (/24 or /64) has sent too many. One whose own token is refreshed too
// often is left to [Engine.Refresh], which refuses it: it is not the neighbours' matter.
// An invalid address is nobody's, and not counted: the limit would be everybody's.
func (e *Engine) AdmitRefresh(from netip.Addr, by Transport, tokens []string) error {
	network, ok := networkOf(from)
	if !ok || e.perAddress.each == nil || !e.Ready() { // nothing to open a token for
		return nil
	}
	began := e.cfg.Now()
	t, err := e.openRefresh(by, tokens)
	if err == nil && e.perSession.spent(t.hash(), began) {
		return nil
	}
	err = e.perAddress.take(sender{network, err == nil}, began)
	if err != nil {
		e.cfg.Observe(Event{Kind: EventRefreshAnswered, Err: err, Took: e.cfg.Now().Sub(began)})
	}
	return err
}
