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

// cpuShare bounds the CPU time for bad signatures that must be checked to be known as
// bad: those of tokens without a tag. An attacker can send any number of them, and each
// costs a hundred honest Checks. Good ones cost nothing of it: a rollout, after which
// everybody comes with a token of the former version, is no flood. It is a bucket
// (GCRA) in one word, for no Check is to wait for another.
type cpuShare struct {
	now   func() time.Time
	began time.Time
	cost  time.Duration // of one check on an idle machine
	cores float64       // that are ours
	each  time.Duration // by which one check moves the bucket's full time
	full  atomic.Int64  // when the bucket is full again, since began
	// operations counts the signatures that were made or checked to judge a token.
	operations atomic.Uint64
}

// cpuBurst is how much of its time the share may spend at once: on checks that run at
// the same moment, and no longer than a Check may wait behind them unseen.
const cpuBurst = 20 * time.Millisecond

func newCPUShare(percent int, now func() time.Time) *cpuShare {
	cores := float64(runtime.GOMAXPROCS(0)) * float64(percent) / 100
	cost := checkCost()
	return &cpuShare{now: now, began: now(), cost: cost, cores: cores, each: min(max(time.Duration(float64(cost)/cores), 1), cpuBurst)}
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

// spent tells what a check has come to. A good signature gives back what it took. A bad
// one that took longer than its cost was waiting for the machine's other work: then
// there is less to share.
func (s *cpuShare) spent(took time.Duration, good bool) {
	if good {
		s.full.Add(-int64(s.each))
	} else if more := took - s.cost; more > 0 {
		s.full.Add(int64(float64(more) / s.cores))
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
