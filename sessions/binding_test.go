package sessions

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var testBound = boundWindows{Sliding: testWindows.Sliding, WriteMost: time.Hour, LostAfter: 10 * time.Minute}

// testDeviceKey is a device: its key, and what it signs.
type testDeviceKey struct {
	private *ecdsa.PrivateKey
	public  BoundKey
}

func newDeviceKey(t testing.TB) testDeviceKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x, y := coordinates(t, private)
	public, ok := NewBoundKey(x, y)
	if !ok {
		t.Fatal("a key's own point is none")
	}
	return testDeviceKey{private, public}
}

func coordinates(t testing.TB, k *ecdsa.PrivateKey) (x, y []byte) {
	t.Helper()
	point, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return point[1:33], point[33:]
}

// proof is one that brings its key, as a registration does.
func (d testDeviceKey) proof(t testing.TB) Proof {
	t.Helper()
	const signed = "header.payload"
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, d.private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return Proof{Key: d.public, Signed: signed, Signature: signatureOf(r, s)}
}

func signatureOf(r, s *big.Int) []byte {
	b := make([]byte, 64)
	r.FillBytes(b[:32])
	s.FillBytes(b[32:])
	return b
}

// TestDecideBound has a case for each side of each boundary of B1 to B10.
func TestDecideBound(t *testing.T) {
	good, foreign, none := ownKey, thiefKey, BoundKey{}

	t0, created := signIn(testEpoch, netV)
	t1 := childAt(t0, nonceA, testEpoch.Add(time.Hour))
	t2 := childAt(t1, nonceB, testEpoch.Add(2*time.Hour))
	thief := newRefreshToken(t0.handle, TransportCookie)
	row := promoted(created, t1.hash(), netV, testEpoch.Add(time.Hour))
	edit := func(r Row, f func(*Row)) Row { f(&r); return r }
	keyed := edit(row, func(r *Row) { r.BoundKey = ownKey })
	issued := edit(keyed, func(r *Row) {
		r.NextNonce, r.NextClient, r.IssuedAt, r.Issues = nonceB, netW, testEpoch.Add(2*time.Hour), 3
	})
	boundAt := testEpoch.Add(3 * time.Hour)
	bound := edit(keyed, func(r *Row) { r.BoundAt, r.ExpiresAt = boundAt, boundAt.Add(testBound.Sliding) })
	ending := edit(bound, func(r *Row) { r.ExpiresAt = r.AbsoluteExpiresAt })
	noKey := edit(bound, func(r *Row) { r.BoundKey = BoundKey{} }) // no store holds it

	now := boundAt.Add(time.Minute)
	since := now.Add(-testBound.LostAfter)
	registers := func(k BoundKey, by refreshToken) asked { return asked{way: wayRegister, token: by, key: k} }
	proves := func(k BoundKey) asked { return asked{way: wayProve, token: t1, key: k} }
	plain := func(s asked) asked { s.way, s.token = wayPlain, t1; return s }
	says := func(rule Rule, a boundAnswer, r Row) boundDecision { return boundDecision{rule, a, r} }
	first := func(r Row, at time.Time) Row {
		return edit(r, func(r *Row) {
			r.BoundAt, r.ExpiresAt = at, at.Add(testBound.Sliding)
			r.NextNonce, r.NextClient, r.IssuedAt, r.Issues = Nonce{}, Client{}, time.Time{}, 0
		})
	}
	slid := func(at time.Time) Row {
		return edit(bound, func(r *Row) { r.BoundAt, r.ExpiresAt = at, at.Add(testBound.Sliding) })
	}

	for _, tc := range []struct {
		name  string
		row   Row
		asked asked
		now   time.Time
		want  boundDecision
	}{
		{"B1 by the current token", row, registers(good, t1), now, says(B1, boundRegistered, keyed)},
		{"B1 by the previous token", row, registers(good, t0), now, says(B1, boundRegistered, keyed)},
		{"B1 by a child", row, registers(good, t2), now, says(B1, boundRegistered, keyed)},
		{
			"B1 by a token that was replaced before", edit(row, func(r *Row) { r.Previous, r.Current = t1.hash(), t2.hash() }), registers(good, t0), now,
			says(B1, boundRefused, edit(row, func(r *Row) { r.Previous, r.Current = t1.hash(), t2.hash() })),
		},
		{"B1 by any other token", row, registers(good, thief), now, says(B1, boundRefused, row)},
		{"B1 with the key that is there: its answer was lost", keyed, registers(good, t1), now, says(B1, boundRegistered, keyed)},
		{"B1 with the key that is there, by any token", keyed, registers(good, thief), now, says(B1, boundRegistered, keyed)},
		{"B1 with the key that was proven", bound, registers(good, t1), now, says(B1, boundRegistered, bound)},
		{"B1 with a second key", keyed, registers(foreign, t1), now, says(B1, boundRefused, keyed)},
		{"B1 with a second key, after the proof", bound, registers(foreign, t1), now, says(B1, boundRefused, bound)},
		{"B1 without a key", row, registers(none, t1), now, says(B1, boundRefused, row)},
		{"B1 keeps an issued child", edit(issued, func(r *Row) { r.BoundKey = BoundKey{} }), registers(good, t1), now, says(B1, boundRegistered, issued)},
		{"B1 just before the expiry", row, registers(good, t1), row.ExpiresAt.Add(-tick), says(B1, boundRegistered, keyed)},
		{"B1 at the expiry", row, registers(good, t1), row.ExpiresAt, says(B1, boundRefused, row)},
		{
			"B1 at the absolute expiry", edit(row, func(r *Row) { r.ExpiresAt = r.AbsoluteExpiresAt.Add(time.Hour) }), registers(good, t1), row.AbsoluteExpiresAt,
			says(B1, boundRefused, edit(row, func(r *Row) { r.ExpiresAt = r.AbsoluteExpiresAt.Add(time.Hour) })),
		},

		{"B4 the first", keyed, proves(good), now, says(B4, boundProven, first(keyed, now))},
		{"B4 the first, of an issued child", issued, proves(good), now, says(B4, boundProven, first(keyed, now))},
		{
			"B4 the first slides to the absolute expiry at most", edit(keyed, func(r *Row) { r.ExpiresAt = r.AbsoluteExpiresAt }), proves(good),
			keyed.AbsoluteExpiresAt.Add(-time.Hour), says(B4, boundProven, edit(first(keyed, keyed.AbsoluteExpiresAt.Add(-time.Hour)), func(r *Row) { r.ExpiresAt = r.AbsoluteExpiresAt })),
		},
		{"B4 the first slides, just after the sign-in", keyed, proves(good), testEpoch.Add(time.Minute), says(B4, boundProven, first(keyed, testEpoch.Add(time.Minute)))},
		{"B4 just before the life of an access token", bound, proves(good), boundAt.Add(testBound.WriteMost - tick), says(B4, boundProven, bound)},
		{"B4 slides after it", bound, proves(good), boundAt.Add(testBound.WriteMost), says(B4, boundProven, slid(boundAt.Add(testBound.WriteMost)))},
		{"B4 by any token of the session", bound, asked{way: wayProve, token: thief, key: good}, now, says(B4, boundProven, bound)},
		{
			"B4 does not slide past the absolute expiry", ending, proves(good), ending.AbsoluteExpiresAt.Add(-tick),
			says(B4, boundProven, edit(ending, func(r *Row) { r.BoundAt = r.AbsoluteExpiresAt.Add(-tick) })),
		},
		{"B4 just before the expiry", bound, proves(good), bound.ExpiresAt.Add(-tick), says(B4, boundProven, slid(bound.ExpiresAt.Add(-tick)))},
		{"B4 after the clock was set back", bound, proves(good), boundAt.Add(-time.Hour), says(B4, boundProven, slid(boundAt.Add(-time.Hour)))},
		{"B5 at the expiry", bound, proves(good), bound.ExpiresAt, says(B5, boundEnded, bound)},
		{"B5 at the absolute expiry", ending, proves(good), ending.AbsoluteExpiresAt, says(B5, boundEnded, ending)},
		{"B5 before the first proof", keyed, proves(good), keyed.ExpiresAt, says(B5, boundEnded, keyed)},
		{"B6 of another key", bound, proves(foreign), now, says(B6, boundRefused, bound)},
		{"B6 of another key, for the first", keyed, proves(foreign), now, says(B6, boundRefused, keyed)},
		{"B6 without a key", bound, proves(none), now, says(B6, boundRefused, bound)},
		{"B6 without a key in the row", row, proves(good), now, says(B6, boundRefused, row)},
		{"B6 of a row that should have a key", noKey, proves(good), now, says(B6, boundRefused, noKey)},
		{"B6 of neither", noKey, proves(none), now, says(B6, boundRefused, noKey)},

		{"plain, unbound", row, plain(asked{}), now, says("", boundUnbound, row)},
		{"plain, a key and no proof yet", keyed, plain(asked{again: true}), now, says("", boundUnbound, keyed)},
		{"plain, just before the expiry", bound, plain(asked{}), bound.ExpiresAt.Add(-tick), says(B9, boundProve, bound)},
		{"plain, expired", bound, plain(asked{fresh: true}), bound.ExpiresAt, says("", boundUnbound, bound)},
		{"B8", bound, plain(asked{fresh: true}), now, says(B8, boundAsBefore, bound)},
		{"B8 comes before all else", bound, plain(asked{fresh: true, again: true, skipped: true, waitsSince: since}), now, says(B8, boundAsBefore, bound)},
		{"B9", bound, plain(asked{}), now, says(B9, boundProve, bound)},
		{"B9 also of a browser that could not prove", bound, plain(asked{skipped: true}), now, says(B9, boundProve, bound)},
		{"B9 also of one that has waited for long", bound, plain(asked{waitsSince: since}), now, says(B9, boundProve, bound)},
		{"B10", bound, plain(asked{again: true}), now, says(B10, boundWait, bound)},
		{"B10 skipped", bound, plain(asked{again: true, skipped: true}), now, says(B10, boundWait, bound)},
		{"B10 just before the loss", bound, plain(asked{again: true, waitsSince: since.Add(tick)}), now, says(B10, boundWait, bound)},
		{"B10 lost", bound, plain(asked{again: true, waitsSince: since}), now, says(B10, boundLost, bound)},
		{"B10 skipped, for ever", bound, plain(asked{again: true, skipped: true, waitsSince: since}), now, says(B10, boundWait, bound)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := decideBound(tc.row, tc.asked, tc.now, testBound)
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(boundDecision{}), prefixes); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

// What was not decided mints nothing.
func TestZeroAnswerRefuses(t *testing.T) {
	if (boundDecision{}).answer != boundRefused {
		t.Error("the zero answer is another")
	}
}

// An attacker who has all tokens of a session and no key changes no row, whatever comes.
func TestDecideBoundWithoutTheKey(t *testing.T) {
	t0, row := signIn(testEpoch, netV)
	row.BoundKey = ownKey
	for _, boundAt := range []time.Time{{}, testEpoch.Add(time.Minute)} {
		row.BoundAt = boundAt
		for _, w := range []way{wayRegister, wayProve, wayPlain} {
			for _, now := range []time.Time{testEpoch, testEpoch.Add(time.Hour), row.ExpiresAt.Add(-tick), row.ExpiresAt, row.AbsoluteExpiresAt} {
				for i := range 8 {
					s := asked{way: w, token: t0, key: thiefKey, again: i&1 > 0, skipped: i&2 > 0}
					if i&4 > 0 {
						s.waitsSince = testEpoch.Add(-24 * time.Hour)
					}
					d := decideBound(row, s, now, testBound)
					if d.next != row || d.answer == boundProven || d.answer == boundRegistered || d.answer == boundAsBefore {
						t.Errorf("bound at %s, way %d, at %s: %s with %d, writes %v", boundAt, w, now, d.rule, d.answer, d.next != row)
					}
				}
			}
		}
	}
}

// A row that is bound has no child for anybody: R4 does not fit it.
func TestRotationFitsNoBoundRow(t *testing.T) {
	t0, row := signIn(testEpoch, netV)
	r, now := rotation(t0, netV, nonceA, testWindows), testEpoch.Add(time.Hour)
	if !r.Fits(row, now) {
		t.Fatal("R4 does not fit")
	}
	row.BoundKey = ownKey
	if !r.Fits(row, now) {
		t.Error("R4 does not fit a row with a key that was not proven")
	}
	row.BoundAt = testEpoch.Add(time.Minute)
	if r.Fits(row, now) {
		t.Error("R4 fits a bound row")
	}
}

func TestNewBoundKey(t *testing.T) {
	for range 8 { // of y odd and even
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		x, y := coordinates(t, private)
		k, ok := NewBoundKey(x, y)
		if !ok || k.public() == nil || !k.public().Equal(&private.PublicKey) {
			t.Fatalf("%x, %v is not the key of %x, %x", k, ok, x, y)
		}
	}
	x, y := coordinates(t, newDeviceKey(t).private)
	off := bytes.Clone(y)
	off[31] ^= 2
	p := elliptic.P256().Params().P.FillBytes(make([]byte, 32))
	none := make([]byte, 32)
	for name, of := range map[string][2][]byte{
		"off the curve": {x, off}, "exchanged": {y, x}, "infinity": {none, none}, "nothing": {nil, nil}, "no y": {x, nil},
		"31 bytes": {x[:31], y}, "33 bytes": {append([]byte{0}, x...), y}, "split elsewhere": {append(bytes.Clone(x), y[0]), y[1:]},
		"x not reduced": {p, y}, "y not reduced": {x, bytes.Repeat([]byte{0xff}, 32)},
	} {
		if k, ok := NewBoundKey(of[0], of[1]); ok || k != (BoundKey{}) {
			t.Errorf("%s: %x", name, k)
		}
	}
	for _, k := range []BoundKey{{}, {2}, {4, 1}, {7}, BoundKey(append([]byte{2}, p...))} {
		if k != (BoundKey{2}) && k.public() != nil { // x = 0 is on the curve
			t.Errorf("%x is a point", k)
		}
	}
}

// A signature has 64 bytes. Its s may be high: only what sessiongate signs has one text.
func TestProofBy(t *testing.T) {
	own := newDeviceKey(t)
	p := own.proof(t)
	r, s := new(big.Int).SetBytes(p.Signature[:32]), new(big.Int).SetBytes(p.Signature[32:])
	n := elliptic.P256().Params().N
	signed := func(sig []byte) Proof { return Proof{Signed: p.Signed, Signature: sig} }
	claims := newDeviceKey(t).proof(t) // another's signature, and the owner's key
	claims.Key = own.public
	for name, tc := range map[string]struct {
		proof Proof
		by    BoundKey
		want  bool
	}{
		"good":         {p, own.public, true},
		"the other s":  {signed(signatureOf(r, new(big.Int).Sub(n, s))), own.public, true},
		"another key":  {p, newDeviceKey(t).public, false},
		"that claims":  {claims, own.public, false},
		"no key":       {p, BoundKey{}, false},
		"no point":     {p, BoundKey{2, 5: 0xff}, false},
		"another text": {Proof{Signed: p.Signed + "x", Signature: p.Signature}, own.public, false},
		"no signature": {signed(nil), own.public, false},
		"r zero":       {signed(signatureOf(new(big.Int), s)), own.public, false},
		"s zero":       {signed(signatureOf(r, new(big.Int))), own.public, false},
		"both zero":    {signed(make([]byte, 64)), own.public, false},
		"r + n":        {signed(bytes.Repeat([]byte{0xff}, 64)), own.public, false},
		"s = n":        {signed(signatureOf(r, n)), own.public, false},
		"exchanged":    {signed(signatureOf(s, r)), own.public, false},
		"too short":    {signed(p.Signature[:63]), own.public, false},
		"too long":     {signed(append(bytes.Clone(p.Signature), 0)), own.public, false},
		"zeros before": {signed(append(make([]byte, 2), p.Signature...)), own.public, false},
		"in ASN.1":     {signed(asn1Of(t, own, p.Signed)), own.public, false},
	} {
		if got := tc.proof.by(tc.by); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func asn1Of(t testing.TB, d testDeviceKey, signed string) []byte {
	t.Helper()
	digest := sha256.Sum256([]byte(signed))
	sig, err := ecdsa.SignASN1(rand.Reader, d.private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// An identifier is one text for one device session.
func TestIdentifier(t *testing.T) {
	e := offline(t)
	sealer, keys := e.keys.Load().sealers[0], e.keys.Load()
	want := identifier{NewHandle(), newDeviceKey(t).public}
	text := want.seal(sealer).Reveal()
	if got, err := openIdentifier(text, keys); err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	body := text[len(identifierVersion):]
	for name, text := range map[string]string{
		"empty": "", "prefix alone": identifierVersion, "no prefix": body, "no version": identifierPrefix + "_" + body,
		"under another prefix": challengePrefix + body, "truncated": text[:len(text)-4], "longer text": text + "AAAA",
		"the handle": want.handle.String(), "a challenge": challenge{toProve, want.handle, testEpoch}.seal(sealer).Reveal(),
		"a challenge under this prefix": identifierVersion + challenge{toProve, want.handle, testEpoch}.seal(sealer).Reveal()[len(challengePrefix):],
		"a shorter body":                sealer.seal(identifierVersion, make([]byte, identifierBody-1)).Reveal(),
	} {
		if got, err := openIdentifier(text, keys); !errors.Is(err, errSealed) || got != (identifier{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := openIdentifier("sgd2_"+body, keys); !errors.Is(err, errNewerFormat) {
		t.Errorf("of a newer version: %v", err)
	}
	foreign := want.seal(offline(t).keys.Load().sealers[0]).Reveal()
	if _, err := openIdentifier(foreign, keys); !errors.Is(err, errUnknownSealingKey) {
		t.Errorf("another deployment's: %v", err)
	}
}

// A challenge is one text for one purpose, one session and one minute.
func TestChallenge(t *testing.T) {
	e := offline(t)
	local := e.cfg.Now()
	h, other := NewHandle(), NewHandle()
	text := func(p purpose, h Handle, at time.Time) string {
		return challenge{p, h, at}.seal(e.keys.Load().sealers[0]).Reveal()
	}
	good := text(toProve, h, testEpoch)
	body := good[len(challengePrefix):]
	raw, _ := decode(body)
	altered := func(i int) string {
		b := bytes.Clone(raw)
		b[i] ^= 1
		return challengePrefix + encode(b)
	}
	token, _ := signIn(testEpoch, netV)
	refreshText := token.seal(e.keys.Load().sealers[0]).Reveal()
	longer := e.keys.Load().sealers[0].seal(challengePrefix, make([]byte, challengeBody+1)).Reveal()
	foreign := challenge{toProve, h, testEpoch}.seal(offline(t).keys.Load().sealers[0]).Reveal()
	life := e.cfg.Binding.ChallengeLife

	for _, tc := range []struct {
		name  string
		text  string
		fresh bool  // the answer with a feed that is up to date
		stale error // the error with one that is not
	}{
		{"good", good, true, nil},
		{"of the present", text(toProve, h, testEpoch.Add(leeway)), true, nil},
		{"just young", text(toProve, h, testEpoch.Add(-life+tick)), true, nil},
		{"old", text(toProve, h, testEpoch.Add(-life)), false, nil},
		{"from the future, after the clock was set back", text(toProve, h, testEpoch.Add(leeway+tick)), false, nil},
		{"to register", text(toRegister, h, testEpoch), false, nil},
		{"of a client that waits", text(waiting, h, testEpoch), false, nil},
		{"no purpose", text(0, h, testEpoch), false, nil},
		{"another session's", text(toProve, other, testEpoch), false, nil},
		{"no session's", text(toProve, Handle{}, testEpoch), false, nil},
		{"empty", "", false, nil},
		{"prefix alone", challengePrefix, false, nil},
		{"no prefix", body, false, nil},
		{"the prefix of a refresh token", refreshVersion + body, false, nil},
		{"a newer prefix", "sgc2_" + body, false, nil},
		{"a refresh token", refreshText, false, nil},
		{"a refresh token under this prefix", challengePrefix + refreshText[len(refreshVersion):], false, nil},
		{"truncated", good[:len(good)-4], false, nil},
		{"longer text", good + "AAAA", false, nil},
		{"longer body", longer, false, nil},
		{"padded", good + "=", false, nil},
		{"newline inside", good[:20] + "\n" + good[20:], false, nil},
		{"altered nonce", altered(8), false, nil},
		{"altered body", altered(8 + 12), false, nil},
		{"altered tag", altered(len(raw) - 1), false, nil},
		{"altered key", altered(0), false, ErrUnavailable},
		{"another deployment's", foreign, false, ErrUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// The clock of the store stands still, while the feed gets old.
			e.feed.clock.set(testEpoch, local)
			e.feed.clock.local = func() time.Time { return local }
			ok, err := answersChallenge(e, &Proof{Challenge: tc.text}, h)
			if ok != tc.fresh || err != nil {
				t.Errorf("%v, %v", ok, err)
			}
			e.feed.clock.local = func() time.Time { return local.Add(e.cfg.FeedBound + 1) }
			if _, err := answersChallenge(e, &Proof{Challenge: tc.text}, h); !errors.Is(err, tc.stale) || (tc.stale == nil) != (err == nil) {
				t.Errorf("with a stale feed: %v", err)
			}
		})
	}
	if ok, err := answersChallenge(e, nil, h); ok || err != nil {
		t.Errorf("no proof: %v, %v", ok, err)
	}
	if text(toProve, h, testEpoch) == good {
		t.Error("two challenges have one text")
	}
}

// A challenge of a key that has a successor is still answered: a rotation ends no device session.
func TestChallengeOfAFormerKey(t *testing.T) {
	e := offline(t)
	h := NewHandle()
	former := challenge{toProve, h, testEpoch}.seal(e.keys.Load().sealers[0]).Reveal()
	stored := e.keys.Load().stored
	next, err := newKey(KeySealing, 2, e.cfg.KeyEncryptionKey)
	if err != nil {
		t.Fatal(err)
	}
	next.ActiveFrom = testEpoch.Add(-time.Second)
	ring, err := newKeyring(append(slices.Clip(stored), next), e.cfg.keyEncryption(), nil)
	if err != nil {
		t.Fatal(err)
	}
	e.keys.Store(ring)
	text, err := e.sealChallenge(toProve, h)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal([]byte(text[:len(challengePrefix)+8]), []byte(former[:len(challengePrefix)+8])) {
		t.Error("the new key does not seal")
	}
	for name, c := range map[string]string{"the former key's": former, "the new key's": text.Reveal()} {
		if ok, err := answersChallenge(e, &Proof{Challenge: c}, h); !ok || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
	ring, err = newKeyring([]StoredKey{next, stored[1]}, e.cfg.keyEncryption(), nil)
	if err != nil {
		t.Fatal(err)
	}
	e.keys.Store(ring)
	if ok, err := answersChallenge(e, &Proof{Challenge: former}, h); ok || err != nil {
		t.Errorf("of a deleted key: %v, %v", ok, err)
	}
}

// What a client sends of its waiting is not trusted: it counts only where it opens for the session,
// and the first time counts.
func TestWaitsSince(t *testing.T) {
	e := offline(t)
	h := NewHandle()
	at := func(p purpose, h Handle, ago time.Duration) string {
		return challenge{p, h, testEpoch.Add(-ago)}.seal(e.keys.Load().sealers[0]).Reveal()
	}
	minute, hour := at(waiting, h, time.Minute), at(waiting, h, time.Hour)
	for _, tc := range []struct {
		name  string
		waits []string
		ago   time.Duration
	}{
		{"none", nil, -1},
		{"one", []string{minute}, time.Minute},
		{"the last", []string{minute, hour}, time.Minute},
		{"the last, last", []string{hour, minute}, time.Minute},
		{"garbage beside", []string{"x", "", minute}, time.Minute},
		{"another session's", []string{at(waiting, NewHandle(), time.Hour)}, -1},
		{"a challenge", []string{at(toProve, h, time.Hour)}, -1},
		{"behind too many", []string{"1", "2", "3", "4", minute}, -1},
	} {
		want := testEpoch.Add(-tc.ago)
		if tc.ago < 0 {
			want = time.Time{}
		}
		if got := e.waitsSince(tc.waits, h); !got.Equal(want) {
			t.Errorf("%s: %s, want %s", tc.name, got, want)
		}
	}
}

// answersChallenge says whether a proof is of a young challenge of that session.
func answersChallenge(e *Engine, p *Proof, h Handle) (bool, error) {
	c, err := e.answered(p, toProve)
	if errors.Is(err, ErrUnavailable) {
		return false, err
	}
	return err == nil && c.handle == h, nil
}
