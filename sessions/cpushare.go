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

// cpuShare bounds the CPU time for bad signatures of tokens without a tag. Only the signature check
// shows that such a token is bad. An attacker can send any number of them, and each costs as much
// as a hundred honest Checks. Good signatures cost nothing of the share: after a rollout, every
// client comes with a token of the former version, and that is no flood. The share is a token
// bucket (GCRA) in one word, so no Check waits for another.
type cpuShare struct {
	now   func() time.Time
	began time.Time
	cost  time.Duration // of one check on an idle machine
	cores float64       // that the share may use
	each  time.Duration // how far one check moves full
	full  atomic.Int64  // when the bucket is full again, counted from began
	// operations counts the signatures that were made or checked to judge a token.
	operations atomic.Uint64
}

// cpuBurst is how much of its time the share may spend at once, on checks that run at the same
// moment. It is short, so that other Checks do not wait noticeably.
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
		if full > last { // after a clock that went back, close it for a moment only
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

// spent records what a check cost. A good signature gives back what it took. A bad one that took
// longer than expected waited for other work on this machine; then there is less to share.
func (s *cpuShare) spent(took time.Duration, good bool) {
	if good {
		s.full.Add(-int64(s.each))
	} else if more := took - s.cost; more > 0 {
		s.full.Add(int64(float64(more) / s.cores))
	}
}

// checkCost is what one check takes on this machine: the shortest of some, since others run beside
// them.
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
