package sessions

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	promotionGather = 20 * time.Millisecond // how long a batch waits for more
	promotionRetry  = time.Second           // the pause after a failed batch
	promotionFlush  = 2 * time.Second       // what shutdown grants the queue
)

// promoter tells the store of first uses, in the background of the Checks that saw them. It may be
// late, and it may drop a promotion: the next refresh makes up for it (R6).
type promoter struct {
	queue   chan *verified
	batch   int
	timeout time.Duration
	store   Store
	observe func(Event)
	dropped atomic.Uint64
}

// offer enqueues the first use of v, until a promotion has succeeded. It never waits.
func (p *promoter) offer(v *verified) {
	if v.offered.Load() || !v.offered.CompareAndSwap(false, true) {
		return
	}
	select {
	case p.queue <- v:
	default:
		v.offered.Store(false)
		p.dropped.Add(1)
	}
}

// run promotes until ctx ends, then once more what is queued.
func (p *promoter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), promotionFlush)
			defer cancel()
			for len(p.queue) > 0 && flush.Err() == nil {
				p.promote(flush, <-p.queue)
			}
			return
		case v := <-p.queue:
			if p.promote(ctx, v) {
				continue
			}
			select {
			case <-ctx.Done():
			case <-time.After(promotionRetry):
			}
		}
	}
}

// promote sends batches until the queue is empty. A batch names a handle once. A second child of
// one session waits for the next batch, so that children are promoted in the order of their use.
func (p *promoter) promote(ctx context.Context, first *verified) bool {
	for first != nil {
		wait := time.After(promotionGather)
		batch := map[Handle]Promotion{}
		var members []*verified
		next := (*verified)(nil)
		add := func(v *verified) {
			own := Promotion{v.Handle, v.lineage.parent, v.lineage.own}
			if had, ok := batch[v.Handle]; ok && had != own {
				next = v
				return
			}
			batch[v.Handle] = own
			members = append(members, v)
		}
		add(first)
	gather:
		for next == nil && len(batch) < p.batch {
			select {
			case v := <-p.queue:
				add(v)
			case <-wait:
				break gather
			case <-ctx.Done():
				break gather
			}
		}
		if !p.send(ctx, batch, members) {
			if next != nil {
				next.offered.Store(false)
			}
			return false
		}
		first = next
	}
	return true
}

func (p *promoter) send(ctx context.Context, batch map[Handle]Promotion, members []*verified) bool {
	list := make([]Promotion, 0, len(batch))
	for _, own := range batch {
		list = append(list, own)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.timeout)
	defer cancel()
	if err := p.store.Promote(ctx, list); err != nil {
		for _, v := range members {
			v.offered.Store(false) // the next Check offers it again
		}
		p.observe(Event{Kind: EventPromotionsFailed, Count: len(list), Err: err})
		return false
	}
	p.observe(Event{Kind: EventPromoted, Count: len(list)})
	return true
}
