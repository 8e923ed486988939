package sessions

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/errgroup"
)

// Config is what an engine needs to know. Start from [Defaults].
type Config struct {
	// KeyEncryptionKey wraps the keys in the store. Required.
	KeyEncryptionKey *KeyEncryptionKey
	// Issuer is the iss claim of access tokens; every engine over one store has
	// the same.
	Issuer string

	// AccessTokenLife is how long an access token works without asking the
	// store; what is stolen works that long at most.
	AccessTokenLife time.Duration
	// SlidingLife ends a session that was not refreshed for so long,
	// AbsoluteLife ends any.
	SlidingLife, AbsoluteLife time.Duration
	// RefreshAttemptMax, D, is the longest that an honest refresh may take from
	// leaving the browser to its answer's cookies being stored. Half of it is
	// ours.
	RefreshAttemptMax time.Duration
	// HandOutsMax is how often one child may be handed out, at most once in D/2
	// being counted, before its session ends as refresh_abuse.
	HandOutsMax int

	// FeedPoll is the pause between polls of the feed; FeedBound the age from
	// which the feed counts as stale. A poll is given up after FeedBound.
	FeedPoll, FeedBound time.Duration
	// CachedTokens bounds the cache of verified access tokens, PromotionQueue
	// and PromotionBatch the queue of first uses and one transaction of it.
	CachedTokens, PromotionQueue, PromotionBatch int
	// SweepPause is the pause between removals of expired rows, SweepBatch what
	// one removes at most.
	SweepPause time.Duration
	SweepBatch int

	// Now is this machine's clock; it is read for durations only. Events is
	// called for every event, from any goroutine, and must not wait.
	Now    func() time.Time
	Events func(Event)
}

// Defaults is a Config that lacks only the key-encryption key.
func Defaults() Config {
	return Config{
		Issuer:            "sessiongate",
		AccessTokenLife:   time.Hour,
		SlidingLife:       30 * 24 * time.Hour,
		AbsoluteLife:      100 * 24 * time.Hour,
		RefreshAttemptMax: 10 * time.Second,
		HandOutsMax:       20,
		FeedPoll:          200 * time.Millisecond,
		FeedBound:         time.Second,
		CachedTokens:      100_000,
		PromotionQueue:    4096,
		PromotionBatch:    256,
		SweepPause:        time.Minute,
		SweepBatch:        500,
		Now:               time.Now,
		Events:            func(Event) {},
	}
}

func (c Config) check() error {
	switch {
	case c.KeyEncryptionKey == nil:
		return &InvalidError{"KeyEncryptionKey", "must be given"}
	case c.Issuer == "":
		return &InvalidError{"Issuer", "must not be empty"}
	case c.RefreshAttemptMax < time.Millisecond:
		return &InvalidError{"RefreshAttemptMax", "must be at least 1ms"}
	case c.AccessTokenLife < 2*c.RefreshAttemptMax:
		// A shorter one would expire while its own refresh is under way.
		return &InvalidError{"AccessTokenLife", "must be at least twice RefreshAttemptMax"}
	case c.SlidingLife < 2*c.AccessTokenLife+c.RefreshAttemptMax:
		return &InvalidError{"SlidingLife", "must be at least twice AccessTokenLife and RefreshAttemptMax on top"}
	case c.AbsoluteLife < c.SlidingLife:
		return &InvalidError{"AbsoluteLife", "must be at least SlidingLife"}
	case c.HandOutsMax < 1, c.FeedPoll <= 0, c.FeedBound < c.FeedPoll, c.CachedTokens < 1,
		c.PromotionQueue < 1, c.PromotionBatch < 1, c.SweepPause <= 0, c.SweepBatch < 1:
		return &InvalidError{"Config", "counts and pauses must be positive, and FeedBound at least FeedPoll"}
	case c.Now == nil || c.Events == nil:
		return &InvalidError{"Config", "Now and Events must be set"}
	}
	return nil
}

// Engine answers for the sessions of one store. Any number of engines may share
// a store. All methods are safe for concurrent use.
type Engine struct {
	cfg      Config
	store    Store
	windows  Windows
	feed     feed
	keys     atomic.Pointer[keyring]
	cache    *otter.Cache[[32]byte, *verified]
	promoter promoter
}

// verified is a cached access token, and whether its first use was offered to
// the promoter.
type verified struct {
	Access

	offered atomic.Bool
}

// New checks the configuration and builds an engine. It does no I/O: [Engine.Run]
// does, and until that has read keys and feed, everything is unavailable.
func New(store Store, cfg Config) (*Engine, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cache, err := otter.New(&otter.Options[[32]byte, *verified]{MaximumSize: cfg.CachedTokens})
	if err != nil {
		return nil, fmt.Errorf("making the token cache: %w", err)
	}
	e := &Engine{
		cfg:     cfg,
		store:   store,
		windows: Windows{Attempt: cfg.RefreshAttemptMax, HandOutsMax: cfg.HandOutsMax, Sliding: cfg.SlidingLife},
		cache:   cache,
		promoter: promoter{
			queue: make(chan *verified, cfg.PromotionQueue), batch: cfg.PromotionBatch,
			timeout: cfg.RefreshAttemptMax / 2, store: store, emit: cfg.Events,
		},
	}
	e.feed.clock.local = cfg.Now
	return e, nil
}

const (
	startRetryFirst = 100 * time.Millisecond
	startRetryLast  = 5 * time.Second
)

// errKeys: the keys in the store are not ours to open. Retrying is no use.
var errKeys = errors.New("opening the keys in the store")

// Run reads keys and feed, makes the first keys where there are none, and then
// follows the feed, promotes and sweeps until ctx ends; it returns when all that
// has stopped. A store that cannot be reached is waited for. The only other
// reason to return is that the stored keys do not open under the given
// key-encryption key.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.start(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	e.cfg.Events(Event{Kind: EventReady})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { e.follow(ctx); return nil })
	g.Go(func() error { e.promoter.run(ctx); return nil })
	g.Go(func() error { e.sweep(ctx); return nil })
	return g.Wait()
}

func (e *Engine) start(ctx context.Context) error {
	for pause := startRetryFirst; ; pause = min(2*pause, startRetryLast) {
		err := e.prepare(ctx)
		if err == nil || errors.Is(err, errKeys) || ctx.Err() != nil {
			return err
		}
		e.cfg.Events(Event{Kind: EventStartRetried, Err: err})
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (e *Engine) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startRetryLast)
	defer cancel()
	horizon := e.cfg.AccessTokenLife + leeway + e.cfg.RefreshAttemptMax
	if err := e.store.RaiseHorizon(ctx, horizon); err != nil {
		return fmt.Errorf("raising the horizon: %w", err)
	}
	// Where another process is faster, its keys are the ones.
	for _, kind := range []KeyKind{KeySigning, KeySealing} {
		if err := e.ensureKey(ctx, kind); err != nil {
			return err
		}
	}
	return e.poll(ctx)
}

func (e *Engine) ensureKey(ctx context.Context, kind KeyKind) error {
	stored, err := e.store.Keys(ctx)
	if err != nil {
		return fmt.Errorf("reading keys: %w", err)
	}
	for _, k := range stored {
		if k.Kind == kind {
			return nil
		}
	}
	k, err := newKey(kind, 1, e.cfg.KeyEncryptionKey)
	if err != nil {
		return err
	}
	if _, err := e.store.AddKey(ctx, k, 0); err != nil {
		return fmt.Errorf("adding the first %s key: %w", kind, err)
	}
	return nil
}

// poll reads the feed, and the keys where they changed.
func (e *Engine) poll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(e.cfg.FeedBound, time.Second))
	defer cancel()
	if err := e.feed.poll(ctx, e.store, e.loadKeys); err != nil {
		return fmt.Errorf("polling the feed: %w", err)
	}
	return nil
}

func (e *Engine) loadKeys(ctx context.Context) error {
	stored, err := e.store.Keys(ctx)
	if err != nil {
		return fmt.Errorf("reading keys: %w", err)
	}
	ring, err := newKeyring(stored, e.cfg.KeyEncryptionKey)
	if err != nil {
		return fmt.Errorf("%w: %w", errKeys, err)
	}
	if !ring.complete() {
		return errors.New("the store holds no key of some kind")
	}
	e.keys.Store(ring)
	e.cache.InvalidateAll() // what a deleted key had signed goes with it
	return nil
}

// follow polls the feed until ctx ends.
func (e *Engine) follow(ctx context.Context) {
	tick := time.NewTicker(e.cfg.FeedPoll)
	defer tick.Stop()
	pruned := e.feed.clock.now()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := e.poll(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			failing = true
			e.cfg.Events(Event{Kind: EventFeedFailed, Err: err})
		case err == nil && failing:
			failing = false
			e.cfg.Events(Event{Kind: EventFeedRecovered})
		}
		if now := e.feed.clock.now(); now.Sub(pruned) > time.Minute {
			pruned = now
			e.feed.prune()
		}
	}
}

// sweep removes expired rows in batches until ctx ends.
func (e *Engine) sweep(ctx context.Context) {
	tick := time.NewTicker(e.cfg.SweepPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n, err := e.store.Sweep(ctx, e.cfg.SweepBatch)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			e.cfg.Events(Event{Kind: EventSweepFailed, Err: err})
		case n > 0:
			e.cfg.Events(Event{Kind: EventSwept, Count: n})
		}
	}
}

// Ready says whether keys and feed have been read once. An outage of the store
// does not take it back: it must not take every replica out of service.
func (e *Engine) Ready() bool { return e.feed.clock.reading.Load() != nil }

// FeedAge is how old what this engine knows of the feed is.
func (e *Engine) FeedAge() time.Duration { return e.feed.clock.age() }

// fresh says whether the feed, and with it the keys, is younger than its bound.
func (e *Engine) fresh() bool { return e.feed.clock.age() <= e.cfg.FeedBound }

// JWKS is the JWK Set (RFC 7517) of the keys that verify access tokens, public
// members only.
func (e *Engine) JWKS() ([]byte, error) {
	ring := e.keys.Load()
	if ring == nil {
		return nil, ErrUnavailable
	}
	return ring.jwks()
}

// tokensMax bounds the values of one session cookie that are looked at: each may
// cost a signature check.
const tokensMax = 8

// Verify judges the access tokens that a request carries (V1 to V5): those with
// no good signature are ignored, the one issued last counts, and tokens of
// several sessions decide nothing. It reads memory only. The Access is shared
// and must not be changed.
func (e *Engine) Verify(tokens []string) (*Access, *Denial) {
	if !e.Ready() {
		return nil, DenyStarting
	}
	if len(tokens) == 0 {
		return nil, DenyNoToken
	}
	if len(tokens) > tokensMax {
		return nil, DenyMalformed
	}
	var best *verified
	var denial *Denial
	for _, text := range tokens {
		v, d := e.open(text)
		switch {
		case d != nil:
			if denial == nil || d.Outcome == Unavailable {
				denial = d
			}
		case best != nil && best.Handle != v.Handle:
			return nil, DenySeveral
		case best == nil || v.IssuedAt.After(best.IssuedAt):
			best = v
		}
	}
	if best == nil {
		return nil, denial
	}
	now := e.feed.clock.now()
	if !now.Before(best.Expires) {
		return nil, DenyExpired
	}
	if best.IssuedAt.After(now.Add(leeway)) {
		return nil, DenyClaims
	}
	if d := e.feed.set.deny(&best.Access); d != nil {
		return nil, d
	}
	if best.parent != (Mark{}) {
		e.promoter.offer(best) // V4
	}
	return &best.Access, nil
}

// open finds a token in the cache, by a digest of its exact bytes, or checks it.
func (e *Engine) open(text string) (*verified, *Denial) {
	if len(text) > accessTokenMax {
		return nil, DenyMalformed
	}
	var buf [accessTokenMax]byte
	key := sha256.Sum256(append(buf[:0], text...))
	if v, ok := e.cache.GetIfPresent(key); ok {
		return v, nil
	}
	a, d := e.keys.Load().open(text, e.cfg.Issuer)
	if d != nil {
		if d == DenyUnknownKey && !e.fresh() {
			return nil, DenyStaleKeys
		}
		return nil, d
	}
	v, _ := e.cache.SetIfAbsent(key, &verified{Access: *a})
	return v, nil
}

// NewSession is what a login service says of the session it creates.
type NewSession struct {
	UserID    string
	Claims    []byte // a JSON object, or nil
	Data      []byte // a JSON object, or nil
	Transport Transport
	Client    Client // none: whoever holds the first refresh token
}

// Issued is what a client is to be given.
type Issued struct {
	Session  Record
	Access   Token
	Refresh  Token // empty: the client keeps the one it has
	AntiCSRF Token
	// Payload is the JSON payload of the access token, AccessExpires its exp.
	Payload       []byte
	AccessExpires time.Time
	// RefreshLife is how long the session lives from now without another
	// refresh: the life of its cookies.
	RefreshLife time.Duration
	Transport   Transport
	Rule        Rule // that decided a refresh
}

// Create starts a session. Bad input is an [*InvalidError].
func (e *Engine) Create(ctx context.Context, n NewSession) (Issued, error) {
	if !e.Ready() {
		return Issued{}, ErrUnavailable
	}
	if err := n.check(); err != nil {
		return Issued{}, err
	}
	t := newRefreshToken(NewHandle(), n.Transport)
	if err := e.checkSize(n, t); err != nil {
		return Issued{}, err
	}
	rec, err := e.store.Create(ctx, NewRecord{
		Handle: t.handle, UserID: n.UserID, Current: t.mark(), CurrentClient: n.Client,
		Claims: n.Claims, Data: n.Data, SlidingLife: e.cfg.SlidingLife, AbsoluteLife: e.cfg.AbsoluteLife,
	})
	if err != nil {
		return Issued{}, unavailable("creating session", err)
	}
	t.issuedAt = rec.CreatedAt
	issued, err := e.issue(rec, t, Mark{}, rec.CreatedAt, true)
	if err != nil {
		return Issued{}, err
	}
	e.cfg.Events(Event{Kind: EventCreated, Handle: rec.Handle, UserID: rec.UserID})
	return issued, nil
}

// issue mints the access token of the line's token t and, if handOut, seals t.
func (e *Engine) issue(rec Record, t refreshToken, parent Mark, now time.Time, handOut bool) (Issued, error) {
	own := t.mark()
	if !handOut {
		own = rec.Current // t may be the previous one (R7)
	}
	m, err := e.mint(rec, t, own, parent, now)
	if err != nil {
		return Issued{}, unavailable("minting", err)
	}
	i := Issued{
		Session: rec, Access: m.token, AntiCSRF: t.antiCSRF.token(), Payload: m.payload, AccessExpires: m.expires,
		RefreshLife: earlier(rec.ExpiresAt, rec.AbsoluteExpiresAt).Sub(now), Transport: t.transport,
	}
	if handOut {
		i.Refresh = t.seal(e.keys.Load().sealer(now))
	}
	return i, nil
}

// casAttempts bounds how often a refresh decides anew because another was
// faster. Each loser of a race finds the winner's row, so few are needed.
const casAttempts = 16

// Refresh answers the refresh tokens that a request carries (R1 to R8). The
// error is [ErrOver] (or [ErrTheft]), [ErrSuperseded] or [ErrUnavailable].
func (e *Engine) Refresh(ctx context.Context, tokens []string, client Client) (Issued, error) {
	if !e.Ready() {
		return Issued{}, ErrUnavailable
	}
	// Our half of D is kept by force: a later answer could reach a browser whose
	// token has left the line meanwhile.
	ctx, cancel := context.WithTimeout(ctx, e.cfg.RefreshAttemptMax/2)
	defer cancel()
	issued, err := e.refresh(ctx, tokens, client)
	if ctx.Err() != nil && !errors.Is(err, ErrOver) {
		return Issued{}, unavailable("refreshing", errors.Join(err, ctx.Err()))
	}
	return issued, err
}

func (e *Engine) refresh(ctx context.Context, tokens []string, client Client) (Issued, error) {
	t, err := e.openRefresh(tokens)
	if err != nil {
		return Issued{}, err
	}
	var nonce Nonce
	fill(nonce[:])
	for range casAttempts {
		rec, now, err := e.store.Get(ctx, t.handle)
		if errors.Is(err, ErrNotFound) {
			return Issued{}, e.gone(ctx, t.handle)
		}
		if err != nil {
			return Issued{}, unavailable("reading session", err)
		}
		d := decide(rec.Row, t, client, now, nonce, e.windows)
		if d.end != "" {
			ending := Ending{Reason: d.end, Actor: "refresh"}
			done, err := e.store.EndIf(ctx, rec.Row, ending)
			if err != nil {
				return Issued{}, unavailable("ending session", err)
			}
			if !done {
				continue
			}
			e.ended(rec.Handle, rec.UserID, ending, d.rule)
			if d.end == ReasonTheft {
				return Issued{}, ErrTheft
			}
			return Issued{}, ErrOver
		}
		if d.next != rec.Row {
			done, err := e.store.Swap(ctx, rec.Row, d.next)
			if err != nil {
				return Issued{}, unavailable("writing session", err)
			}
			if !done {
				continue
			}
			rec.Row = d.next
		}
		return e.answer(rec, t, d, now)
	}
	return Issued{}, unavailable("refreshing", errors.New("too many others at once"))
}

// answer gives what was decided.
func (e *Engine) answer(rec Record, t refreshToken, d decision, now time.Time) (issued Issued, err error) {
	event := Event{Kind: EventRefreshed, Handle: rec.Handle, UserID: rec.UserID, Rule: d.rule}
	switch d.answer {
	case answerChild:
		child := t.child(rec.NextNonce)
		child.issuedAt = now
		issued, err = e.issue(rec, child, rec.Current, now, true)
	case answerKeep:
		issued, err = e.issue(rec, t, Mark{}, now, false)
	case answerSuperseded:
		event.Kind, err = EventSuperseded, ErrSuperseded
	default:
		event.Kind, err = EventOver, ErrOver
	}
	issued.Rule = d.rule
	if err == nil || event.Kind != EventRefreshed {
		e.cfg.Events(event)
	}
	return issued, err
}

// openRefresh is R1: of the tokens that open, the one issued last; over, without
// a query, where none opens or they belong to several sessions.
func (e *Engine) openRefresh(tokens []string) (refreshToken, error) {
	var best refreshToken
	found := false
	var unsure error
	if len(tokens) > tokensMax {
		tokens = nil
	}
	for _, text := range tokens {
		t, err := openRefreshToken(text, e.keys.Load())
		switch {
		case errors.Is(err, errNewerFormat), errors.Is(err, errUnknownSealingKey) && !e.fresh():
			unsure = err
		case err != nil:
		case found && t.handle != best.handle:
			e.cfg.Events(Event{Kind: EventOver, Rule: R1})
			return refreshToken{}, ErrOver
		case !found || t.issuedAt.After(best.issuedAt):
			best, found = t, true
		}
	}
	switch {
	case found:
		return best, nil
	case unsure != nil:
		return refreshToken{}, unavailable("opening refresh token", unsure)
	default:
		e.cfg.Events(Event{Kind: EventOver, Rule: R1})
		return refreshToken{}, ErrOver
	}
}

// gone is R2 for a session that the store does not hold: over. But where its
// client signed out a moment ago, a new sign-in may have set new cookies since,
// and a late "over" would clear those.
func (e *Engine) gone(ctx context.Context, h Handle) error {
	how, known := e.feed.set.endedAs(h)
	if !known { // another replica's sign-out may be newer than the last poll
		if err := e.poll(ctx); err != nil {
			return unavailable("reading why the session is gone", err)
		}
		how, known = e.feed.set.endedAs(h)
	}
	if known && how.reason == ReasonSignedOut && e.feed.clock.now().Before(how.at.Add(2*e.cfg.RefreshAttemptMax)) {
		e.cfg.Events(Event{Kind: EventSuperseded, Handle: h, Rule: R2})
		return ErrSuperseded
	}
	e.cfg.Events(Event{Kind: EventOver, Handle: h, Rule: R2})
	return ErrOver
}

// Get returns a living session, or [ErrNotFound].
func (e *Engine) Get(ctx context.Context, h Handle) (Record, error) {
	rec, now, err := e.store.Get(ctx, h)
	switch {
	case errors.Is(err, ErrNotFound):
		return Record{}, ErrNotFound
	case err != nil:
		return Record{}, unavailable("reading session", err)
	case !now.Before(rec.ExpiresAt) || !now.Before(rec.AbsoluteExpiresAt):
		return Record{}, ErrNotFound
	}
	return rec, nil
}

// End ends a session. It reports whether there was one; ending none is no error.
// From when it returns, no token is minted for the session (I4) and this engine
// allows none; every other one follows within its feed's bound.
func (e *Engine) End(ctx context.Context, h Handle, ending Ending) (bool, error) {
	done, err := e.store.End(ctx, h, ending)
	if err != nil {
		return false, unavailable("ending session", err)
	}
	if done {
		e.ended(h, "", ending, "")
	}
	return done, nil
}

// EndUser ends all sessions of a user and returns how many there were.
func (e *Engine) EndUser(ctx context.Context, userID string, ending Ending) (int, error) {
	if err := checkUserID(userID); err != nil {
		return 0, err
	}
	handles, err := e.store.EndUser(ctx, userID, ending)
	if err != nil {
		return 0, unavailable("ending the sessions of a user", err)
	}
	for _, h := range handles {
		e.ended(h, userID, ending, "")
	}
	return len(handles), nil
}

// ended lets this engine deny at once what the others learn from the feed.
func (e *Engine) ended(h Handle, userID string, ending Ending, rule Rule) {
	if e.Ready() {
		e.feed.set.add(Entry{Kind: EntryEnded, Handle: h, Reason: ending.Reason, At: e.feed.clock.now()})
	}
	e.cfg.Events(Event{Kind: EventEnded, Handle: h, UserID: userID, Rule: rule, Reason: ending.Reason, Actor: ending.Actor})
}

// SignOut ends the sessions that the tokens of a request name: by any refresh
// token that opens, or by an access token that is valid. It is idempotent.
// Where nothing but an expired access token is there, the error is DenyExpired:
// refresh, then sign out.
func (e *Engine) SignOut(ctx context.Context, refresh, access []string) error {
	if !e.Ready() {
		return ErrUnavailable
	}
	if len(refresh) > tokensMax || len(access) > tokensMax {
		refresh, access = nil, nil
	}
	handles := map[Handle]bool{}
	for _, text := range refresh {
		t, err := openRefreshToken(text, e.keys.Load())
		switch {
		case err == nil:
			handles[t.handle] = true
		case errors.Is(err, errNewerFormat), errors.Is(err, errUnknownSealingKey) && !e.fresh():
			return unavailable("opening refresh token", err)
		}
	}
	expired := false
	for _, text := range access {
		switch a, d := e.Verify([]string{text}); {
		case d == nil:
			handles[a.Handle] = true
		case d == DenyExpired:
			expired = true
		case d.Outcome == Unavailable:
			return unavailable("verifying access token", d)
		}
	}
	if len(handles) == 0 && expired {
		return DenyExpired
	}
	for h := range handles {
		if _, err := e.End(ctx, h, Ending{Reason: ReasonSignedOut, Actor: "sign-out"}); err != nil {
			return err
		}
	}
	return nil
}

func unavailable(doing string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, doing, err)
}
