package sessions

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// promotions is a store that is told of promotions.
type promotions struct {
	Store

	mu      sync.Mutex
	batches [][]Promotion
	down    bool
}

func (p *promotions) Promote(_ context.Context, ps []Promotion) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches = append(p.batches, ps)
	if p.down {
		return errors.New("no route to host")
	}
	return nil
}

func (p *promotions) setDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

func (p *promotions) told() [][]Promotion {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.batches)
}

func seen(session, own byte) *verified {
	return &verified{Access: Access{Handle: Handle{session}, lineage: lineage{own: TokenHash{own}, parent: TokenHash{own - 1}}}}
}

// promoting runs a promoter in a bubble of its own time.
func promoting(t *testing.T, batch int, play func(p *promoter, store *promotions)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store := &promotions{}
		p := &promoter{queue: make(chan *verified, 10), batch: batch, timeout: time.Second, store: store, observe: func(Event) {}}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { p.run(ctx); close(done) }()
		synctest.Wait()
		play(p, store)
		stop()
		<-done
	})
}

func rest() { time.Sleep(10 * promotionGather); synctest.Wait() }

func TestPromoterTellsOnce(t *testing.T) {
	promoting(t, 10, func(p *promoter, store *promotions) {
		a := seen(1, 10)
		for range 100 {
			p.offer(a)
		}
		rest()
		p.offer(a)
		rest()
		if len(store.told()) != 1 || !slices.Equal(store.told()[0], []Promotion{{Handle{1}, TokenHash{9}, TokenHash{10}}}) {
			t.Errorf("told %v", store.told())
		}
	})
}

func TestPromoterGathers(t *testing.T) {
	promoting(t, 3, func(p *promoter, store *promotions) {
		for i := range byte(7) {
			p.offer(seen(i+1, 10))
		}
		rest()
		sizes := []int{}
		for _, b := range store.told() {
			sizes = append(sizes, len(b))
		}
		if !slices.Equal(sizes, []int{3, 3, 1}) {
			t.Errorf("batches of %v", sizes)
		}
	})
}

// Two children of one session are told in the order of their use, in two
// batches: no handle appears twice in one.
func TestPromoterKeepsTheOrderOfASession(t *testing.T) {
	promoting(t, 10, func(p *promoter, store *promotions) {
		p.offer(seen(1, 10))
		p.offer(seen(2, 10))
		p.offer(seen(1, 11))
		p.offer(seen(1, 11)) // another token of the same child
		rest()
		var order []TokenHash
		for _, b := range store.told() {
			handles := map[Handle]bool{}
			for _, one := range b {
				if handles[one.Handle] {
					t.Errorf("a handle is twice in %v", b)
				}
				handles[one.Handle] = true
				if one.Handle == (Handle{1}) {
					order = append(order, one.Own)
				}
			}
		}
		if len(order) < 2 || order[0] != (TokenHash{10}) || order[1] != (TokenHash{11}) {
			t.Errorf("order %v", order)
		}
	})
}

func TestPromoterTriesAgainAfterAFailure(t *testing.T) {
	promoting(t, 10, func(p *promoter, store *promotions) {
		store.setDown(true)
		a := seen(1, 10)
		p.offer(a)
		rest()
		store.setDown(false)
		p.offer(a) // by the next Check
		p.offer(a)
		rest()
		if len(store.told()) != 1 {
			t.Errorf("told %d times without a pause", len(store.told()))
		}
		time.Sleep(promotionRetry)
		rest()
		p.offer(a)
		rest()
		if len(store.told()) != 2 {
			t.Errorf("told %d times, want one failure and one success", len(store.told()))
		}
	})
}

// A queue that is full drops, and the Check does not wait.
func TestPromoterDropsWhenFull(t *testing.T) {
	p := &promoter{queue: make(chan *verified, 1)}
	a, b := seen(1, 10), seen(2, 10)
	p.offer(a)
	p.offer(b)
	if len(p.queue) != 1 || !a.offered.Load() || b.offered.Load() {
		t.Fatalf("%d queued", len(p.queue))
	}
	<-p.queue
	p.offer(b) // by the next Check
	if len(p.queue) != 1 || !b.offered.Load() {
		t.Error("what was dropped is not offered again")
	}
}

func TestPromoterFlushesAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &promotions{}
		p := &promoter{queue: make(chan *verified, 10), batch: 2, timeout: time.Second, store: store, observe: func(Event) {}}
		for i := range byte(5) {
			p.offer(seen(i+1, 10))
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		p.run(ctx)
		count := 0
		for _, b := range store.told() {
			count += len(b)
		}
		if count != 5 {
			t.Errorf("told %d of 5", count)
		}
	})
}

// What the full queue drops is counted, and offered again.
func TestFullQueueDrops(t *testing.T) {
	p := &promoter{queue: make(chan *verified, 2)}
	last := seen(3, 10)
	for _, v := range []*verified{seen(1, 10), seen(2, 10), last, last} {
		p.offer(v)
	}
	if p.dropped.Load() != 2 || last.offered.Load() {
		t.Errorf("dropped %d, offered for good: %t", p.dropped.Load(), last.offered.Load())
	}
}
