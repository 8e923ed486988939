package sessions

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// cpuShare bounds the CPU time for signatures that must be checked to learn whether
// they are anybody's: those of tokens without a tag. An attacker can send any number
// of them, and each costs a hundred honest Checks. It is a bucket (GCRA) in one word,
// for no Check is to wait for another.
type cpuShare struct {
	now   func() time.Time
	began time.Time
	each  time.Duration // by which one check moves the bucket's full time
	full  atomic.Int64  // when the bucket is full again, since began
	// operations counts the signatures that were made or checked to judge a token.
	operations atomic.Uint64
}

// cpuBurst is how much of its time the share may have spent at once: what honest
// clients need whose tokens a former version made, when a replica starts.
const cpuBurst = 500 * time.Millisecond

func newCPUShare(percent int, now func() time.Time) *cpuShare {
	cores := float64(runtime.GOMAXPROCS(0)) * float64(percent) / 100
	each := time.Duration(float64(checkCost()) / cores)
	return &cpuShare{now: now, began: now(), each: max(each, 1)}
}

// take says whether there is time for one more check.
func (s *cpuShare) take() bool {
	for {
		now := int64(s.now().Sub(s.began))
		full, last := s.full.Load(), now+int64(cpuBurst)
		if full > last { // a clock that went back closes it for a moment, not until it catches up
			s.full.CompareAndSwap(full, last)
			continue
		}
		next := max(full, now) + int64(s.each)
		if next > last {
			return false
		}
		if s.full.CompareAndSwap(full, next) {
			s.operations.Add(1)
			return true
		}
	}
}

// checkCost is what one check takes on this machine: the shortest of some, for
// others run beside it.
var checkCost = sync.OnceValue(func() time.Duration {
	cost := time.Millisecond
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cost
	}
	digest := sha256.Sum256(nil)
	signature, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return cost
	}
	for range 10 {
		began := time.Now()
		ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature)
		cost = min(cost, time.Since(began))
	}
	return cost
})
