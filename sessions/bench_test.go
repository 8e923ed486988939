package sessions

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// BenchmarkVerify is a Check of a token that was seen before: the hot path.
func BenchmarkVerify(b *testing.B) {
	e := offline(b)
	e.feed.clock.local = time.Now
	e.feed.clock.set(testEpoch, time.Now())
	tokens := []string{issueAt(b, e, testEpoch, `{"role":"admin"}`).Access.Reveal()}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, d := e.Verify(TransportCookie, tokens); d != nil {
				b.Fatal(d)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, d := e.Verify(TransportCookie, tokens); d != nil {
					b.Error(d)
					return
				}
			}
		})
	})
	b.Run("parallel sessions", func(b *testing.B) {
		var many [1000][]string
		for i := range many {
			many[i] = []string{issueAt(b, e, testEpoch, fmt.Sprintf(`{"n":%d}`, i)).Access.Reveal()}
			if _, d := e.Verify(TransportCookie, many[i]); d != nil {
				b.Fatal(d)
			}
		}
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				if _, d := e.Verify(TransportCookie, many[i%len(many)]); d != nil {
					b.Error(d)
					return
				}
			}
		})
	})
}

// BenchmarkVerifyUncached is a token's first Check: a signature is verified.
func BenchmarkVerifyUncached(b *testing.B) {
	e := offline(b)
	ring := e.keys.Load()
	text := issueAt(b, e, testEpoch, `{"role":"admin"}`).Access.Reveal()
	b.ReportAllocs()
	for b.Loop() {
		t, _ := cutToken(text)
		if _, d := ring.open(t, e.cfg.Issuer, testEpoch, e.unverified); d != nil {
			b.Fatal(d)
		}
	}
}

// BenchmarkFirstCheckToNext measures both side by side in one run: how many
// times a token's first Check costs what each later one does.
func BenchmarkFirstCheckToNext(b *testing.B) {
	e := offline(b)
	e.feed.clock.local = time.Now
	e.feed.clock.set(testEpoch, time.Now())
	tokens := []string{issueAt(b, e, testEpoch, `{"role":"admin"}`).Access.Reveal()}
	const laterChecks = 100
	var first, later time.Duration
	for b.Loop() {
		e.cache.entries.InvalidateAll()
		began := time.Now()
		e.Verify(TransportCookie, tokens)
		seen := time.Now()
		for range laterChecks {
			e.Verify(TransportCookie, tokens)
		}
		first += seen.Sub(began)
		later += time.Since(seen)
	}
	b.ReportMetric(float64(first)*laterChecks/float64(later), "first/later")
}

// BenchmarkVerifyGarbage is what an attacker's invented token costs, by how much the attacker
// knows, beside the first Check of a valid token in the same run.
func BenchmarkVerifyGarbage(b *testing.B) {
	e := offline(b)
	key := e.keys.Load().signers[0]
	issued := issueAt(b, e, testEpoch, `{"role":"admin"}`)
	plain := untagged(b, issued.Payload)
	cut, _ := cutToken(issued.Access.Reveal())
	wrongTag := string(offline(b).keys.Load().signers[0].withTag([]byte(plain)))
	for _, kind := range []struct {
		name, text string
		want       *Denial
		share      time.Duration // of each check; 0: never spent
	}{
		{"unknown key", issueAt(b, offline(b), testEpoch, `{"role":"admin"}`).Access.Reveal(), DenyUnknownKey, 0},
		{"wrong tag", key.header + "." + encode([]byte(wrongTag)) + "." + cut.signature, DenySignature, 0},
		{"another signature", cut.signed() + "." + randomSignature(), DenySignature, 0},
		{"no tag", key.header + "." + encode([]byte(plain)) + "." + randomSignature(), DenySignature, 0},
		{"no tag, the share is spent", key.header + "." + encode([]byte(plain)) + "." + randomSignature(), DenyBusy, cpuBurst + 1},
	} {
		b.Run(kind.name, func(b *testing.B) {
			e.unverified.each, e.unverified.cores = kind.share, 1e9
			tokens := []string{kind.text}
			var garbage, first time.Duration
			b.ReportAllocs()
			for b.Loop() {
				began := time.Now()
				if _, d := e.Verify(TransportCookie, tokens); d != kind.want {
					b.Fatal(d)
				}
				garbage += time.Since(began)
				e.cache.entries.InvalidateAll()
				began = time.Now()
				if _, d := e.Verify(TransportCookie, []string{cut.text}); d != nil {
					b.Fatal(d)
				}
				first += time.Since(began)
			}
			b.ReportMetric(float64(garbage)/float64(first), "garbage/first")
		})
	}
}

// BenchmarkRefresh is the computing part of a refresh: open, decide, derive,
// seal and sign.
func BenchmarkRefresh(b *testing.B) {
	e := offline(b)
	issued := issueAt(b, e, testEpoch, `{"role":"admin"}`)
	texts := []string{issued.Refresh.Reveal()}
	now := testEpoch.Add(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		token, err := e.openRefresh(TransportCookie, texts)
		if err != nil {
			b.Fatal(err)
		}
		d := decide(issued.Session.Row, token, netV, now, nonceA, e.windows)
		rec := issued.Session
		rec.Row = d.next
		if _, err := e.answer(rec, token, d, now); err != nil {
			b.Fatal(err)
		}
	}
}

// TestVerifyAllocatesNothing keeps the hot path what it is.
func TestVerifyAllocatesNothing(t *testing.T) {
	e := offline(t)
	good := []string{issueAt(t, e, testEpoch, `{"role":"admin"}`).Access.Reveal()}
	if n := testing.AllocsPerRun(1000, func() {
		if _, d := e.Verify(TransportCookie, good); d != nil {
			t.Fatal(d)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkMemory is what a replica holds for each ended session and each verified
// access token, in bytes; docs/operations.md tells it.
func BenchmarkMemory(b *testing.B) {
	held := func(b *testing.B, fill func(n int) any) {
		b.Helper()
		const n = 20_000
		before := heap()
		kept := fill(n)
		b.ReportMetric(float64(heap()-before)/n, "bytes/entry")
		b.ReportMetric(0, "ns/op")
		runtime.KeepAlive(kept)
	}
	b.Run("ended session", func(b *testing.B) {
		held(b, func(n int) any {
			f := new(feed)
			f.init(time.Now)
			for range n {
				f.add(Entry{Kind: EntryEnded, Handle: NewHandle(), Reason: ReasonRevoked, At: testEpoch})
			}
			return f
		})
	})
	b.Run("verified token", func(b *testing.B) {
		held(b, func(n int) any {
			e := offline(b)
			e.feed.clock.local = time.Now
			e.feed.clock.set(testEpoch, time.Now())
			for i := range n {
				token := issueAt(b, e, testEpoch, fmt.Sprintf(`{"role":"admin","n":%d}`, i)).Access.Reveal()
				if _, d := e.Verify(TransportCookie, []string{token}); d != nil {
					b.Fatal(d)
				}
			}
			return e
		})
	})
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what the first one queued for finalizers
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
