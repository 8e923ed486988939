package sessions

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"
)

// timed is an engine whose clock the test moves.
func timed(t testing.TB) (e *Engine, pass func(time.Duration)) {
	t.Helper()
	e = offline(t)
	local := e.cfg.Now()
	clock := func() time.Time { return local }
	e.feed.clock.local, e.unverified.now = clock, clock
	e.unverified.each = cpuBurst / 100
	return e, func(d time.Duration) {
		local = local.Add(d)
		e.feed.clock.set(e.feed.clock.now(), local)
	}
}

// flood judges many texts, and tells how many of each denial there were, and how many
// signatures that took.
func flood(e *Engine, n int, text func(i int) string) (map[*Denial]int, uint64) {
	answers, before := map[*Denial]int{}, e.SignatureOperations()
	for i := range n {
		_, d := e.Verify(TransportCookie, []string{text(i)})
		answers[d]++
	}
	return answers, e.SignatureOperations() - before
}

func randomSignature() string {
	var b [signatureSize]byte
	fill(b[:])
	return encode(b[:])
}

// Invented tokens cost no signature if their tag is wrong, and one for each payload if it is right.
// Tokens without a tag have a share of the CPU; beyond it they are told to come back. A client with
// a valid token notices nothing.
func TestFloods(t *testing.T) {
	e, pass := timed(t)
	key := e.keys.Load().signers[0]
	issued := issueAt(t, e, testEpoch, `{"role":"admin"}`)
	mine, _ := cutToken(issued.Access.Reveal())
	plain := untagged(t, issued.Payload)
	other := offline(t).keys.Load().signers[0]
	const n = 5000
	share := int(cpuBurst / e.unverified.each)

	t.Run("wrong tag", func(t *testing.T) {
		answers, operations := flood(e, n, func(int) string {
			var tag [tagBytes]byte
			fill(tag[:])
			payload := strings.Replace(plain, "alice", "mallory", 1)
			return key.header + "." + encode([]byte(strings.TrimSuffix(payload, "}}")+tagBefore+encode(tag[:])+tagAfter)) + "." + randomSignature()
		})
		if answers[DenySignature] != n || operations != 0 {
			t.Errorf("%v with %d signatures", answers, operations)
		}
	})
	t.Run("another key's tag", func(t *testing.T) {
		answers, operations := flood(e, 10, func(int) string {
			return forge(t, key.private, key.header, string(other.withTag([]byte(plain))))
		})
		if answers[DenySignature] != 10 || operations != 0 {
			t.Errorf("%v with %d signatures", answers, operations)
		}
	})
	t.Run("signatures for one's own payload", func(t *testing.T) {
		answers, operations := flood(e, n, func(int) string { return mine.signed() + "." + randomSignature() })
		if answers[DenySignature] != n || operations != 1 {
			t.Errorf("%v with %d signatures", answers, operations)
		}
		if answers, operations = flood(e, 1, func(int) string { return mine.text }); answers[nil] != 1 || operations != 0 {
			t.Errorf("then the right one: %v with %d more", answers, operations)
		}
	})
	t.Run("one's own of yesterday", func(t *testing.T) {
		kept := make([]string, 100)
		for i := range kept {
			kept[i] = issueAt(t, e, testEpoch.Add(-24*time.Hour), fmt.Sprintf(`{"n":%d}`, i)).Access.Reveal()
		}
		answers, operations := flood(e, n, func(i int) string { return kept[i%len(kept)] })
		if answers[DenyExpired] != n || operations != 0 {
			t.Errorf("%v with %d signatures", answers, operations)
		}
	})
	t.Run("a rollout", func(t *testing.T) {
		former := make([]string, 3*share)
		for i := range former {
			former[i] = forge(t, key.private, key.header, strings.Replace(plain, "alice", fmt.Sprint("user", i), 1))
		}
		answers, operations := flood(e, len(former), func(i int) string { return former[i] })
		if answers[nil] != len(former) || operations != uint64(len(former)) {
			t.Errorf("%v with %d signatures", answers, operations)
		}
	})
	t.Run("no tag", func(t *testing.T) {
		invented := func(i int) string {
			return key.header + "." + encode(fmt.Appendf(nil, `{"n":%d}`, i)) + "." + randomSignature()
		}
		answers, operations := flood(e, share+n, invented)
		if answers[DenySignature] != share || answers[DenyBusy] != n || operations != uint64(share) {
			t.Errorf("%v with %d signatures, the share is %d", answers, operations, share)
		}
		if DenyBusy.Outcome != Unavailable {
			t.Error("an honest client is sent to refresh, or signed out, by a flood")
		}
		// A good one without a tag waits with them; once seen, it does not.
		former := forge(t, key.private, key.header, plain)
		if _, d := e.Verify(TransportCookie, []string{former}); d != DenyBusy {
			t.Errorf("a former version's token: %v", d)
		}
		pass(e.unverified.each)
		if _, d := e.Verify(TransportCookie, []string{former}); d != nil {
			t.Errorf("a former version's token, a moment later: %v", d)
		}
		for range 3 {
			if _, d := e.Verify(TransportCookie, []string{former}); d != nil {
				t.Errorf("seen before: %v", d)
			}
		}
		fresh := issueAt(t, e, testEpoch, `{"n":1}`).Access.Reveal()
		if _, d := e.Verify(TransportCookie, []string{fresh}); d != nil {
			t.Errorf("a tagged one amid the flood: %v", d)
		}
		if _, d := e.Verify(TransportCookie, []string{invented(0), fresh}); d != nil {
			t.Errorf("a tagged one beside garbage: %v", d)
		}
	})
}

// The bucket gives what its share is, in whatever steps the time comes.
func TestCPUShare(t *testing.T) {
	now := time.Unix(0, 0)
	s := newCPUShare(50, func() time.Time { return now })
	s.each, s.cores = cpuBurst/10, 1
	takes := func() (n int) {
		for s.take() {
			n++
		}
		return n
	}
	whole := int(cpuBurst / s.each)
	for _, step := range []struct {
		name string
		pass time.Duration
		want int
	}{
		{"at first", 0, whole},
		{"nothing passed", 0, 0},
		{"nearly one", s.each - 1, 0},
		{"one", 1, 1},
		{"three and a half", 7 * time.Millisecond, 3},
		{"the other half", time.Millisecond, 1},
		{"an hour", time.Hour, whole},
		{"an hour, and a check that took 8 ms more", time.Hour, whole - 5},
		{"a clock that went back", -30 * time.Minute, 0},
		{"and goes on", s.each, 1},
	} {
		if now = now.Add(step.pass); strings.HasSuffix(step.name, "more") {
			s.take()
			s.spent(s.cost+8*time.Millisecond, false)
		}
		if got := takes(); got != step.want {
			t.Errorf("%s: %d, want %d", step.name, got, step.want)
		}
	}
}

// What is said of a payload's end is the same of its base64url.
func TestEndsWithTag(t *testing.T) {
	k := offline(t).keys.Load().signers[0]
	for n := range 100 {
		payload := k.withTag([]byte(`{"x":"` + strings.Repeat("x", n) + `","sg":{"tr":1}}`))
		if !endsWithTag(encode(payload)) || !k.hasTag(payload) {
			t.Fatalf("%s: not tagged", payload)
		}
		for at := range payload {
			altered := append([]byte(nil), payload...)
			if altered[at]++; k.hasTag(altered) && endsWithTag(encode(altered)) {
				t.Fatalf("%s: tagged, with byte %d altered", altered, at)
			}
		}
		for cut := range payload {
			if k.hasTag(payload[:cut]) {
				t.Fatalf("%s: has a tag", payload[:cut])
			}
		}
	}
	for _, text := range []string{"", "e30", strings.Repeat("A", 52), strings.Repeat("!", 52), strings.Repeat("\n", 60)} {
		if endsWithTag(text) {
			t.Errorf("%q ends with a tag", text)
		}
	}
}

// Without the signing key no tag can be made; every holder of the key makes the same tag.
func TestTagIsOfTheKey(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	one, err := tagSecret(private)
	if err != nil {
		t.Fatal(err)
	}
	again := *private
	two, err := tagSecret(&again)
	if err != nil || string(one) != string(two) {
		t.Errorf("two secrets of one key: %v", err)
	}
	payload := []byte(`{"sg":{"tr":1}}`)
	if k, other := (&signingKey{tagSecret: one}), offline(t).keys.Load().signers[0]; other.hasTag(k.withTag(payload)) || !k.hasTag(k.withTag(payload)) {
		t.Error("a tag is good for another key, or not for its own")
	}
}
