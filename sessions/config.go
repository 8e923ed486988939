package sessions

import (
	"context"
	"time"
)

// Config is what an engine needs to know. Start from [Defaults].
type Config struct {
	// KeyEncryptionKey wraps the keys in the store. Required.
	KeyEncryptionKey *KeyEncryptionKey
	// PreviousKeyEncryptionKey is the key that KeyEncryptionKey replaces. The engine opens what
	// either of them wrapped. Optional.
	PreviousKeyEncryptionKey *KeyEncryptionKey
	// RotateKeysEvery is the age at which the newest key of a kind gets a successor.
	// KeyActivationDelay is the time for which the successor is published before it signs or seals.
	// Within that time every engine must hear of it (that takes FeedBound), and every other
	// verifier of access tokens must read the JWK Set again.
	RotateKeysEvery, KeyActivationDelay time.Duration
	// Issuer is the iss claim of access tokens. Every engine over one store has the same.
	Issuer string

	// AccessTokenLife is how long an access token works without a query. A stolen access token
	// works at most that long.
	AccessTokenLife time.Duration
	// SlidingLife ends a session that was not refreshed for that long. AbsoluteLife ends every
	// session; it is at most [AbsoluteLifeMax].
	SlidingLife, AbsoluteLife time.Duration
	// RefreshAttemptMax, D, is the longest that an honest refresh may take, from the moment it
	// leaves the browser until the browser has stored the cookies of the answer. The engine uses at
	// most half of it.
	RefreshAttemptMax time.Duration
	// IssuesMax is how often one child may be issued before its session ends as refresh_abuse. One
	// issue in D/2 is counted.
	IssuesMax int
	// PerUser bounds the sessions of one user.
	PerUser UserLimit
	// RefreshesPerSession bounds the refreshes of a session; each refresh token is counted by
	// itself. RefreshesPerAddress bounds those of one network, where its address is known
	// ([Engine.AdmitRefresh]). Each engine counts only the refreshes that it answers. Defaults sets
	// no bound: the right one depends on the clients that can reach the engine.
	RefreshesPerSession, RefreshesPerAddress Rate

	// FeedPoll is the pause between polls of the feed. FeedBound is the age from which the feed
	// counts as stale; a poll is given up after FeedBound.
	FeedPoll, FeedBound time.Duration
	// CachedTokens bounds the cache of verified access tokens. PromotionQueue bounds the queue of
	// first uses, PromotionBatch one transaction of it.
	CachedTokens, PromotionQueue, PromotionBatch int
	// UnverifiedCPU is the share of this process's cores, in percent, that may be spent on bad
	// signatures of tokens without a tag. A former version made such tokens, or an attacker
	// invented them. Beyond the share, the client is told to come back.
	UnverifiedCPU int
	// SweepPause is the pause between two removals of expired rows. SweepBatch is how many rows one
	// removal takes at most.
	SweepPause time.Duration
	SweepBatch int

	// Now is this machine's clock. It is read for durations only. Observe is called for every
	// event, from any goroutine, and must not wait.
	Now     func() time.Time
	Observe func(Event)

	// Audit receives the audit events of all engines over the store, in batches of at most
	// AuditBatch. It returns nil only once the events are durable where they went. An error, or a
	// crash before the store knows, delivers them again: each event at least once, those of one
	// session in order. It returns soon after its context ends. A non-nil Audit also makes the
	// store write the events ([Store.AuditChanges]). nil: this engine delivers none. AuditPoll is
	// the pause after a batch that was not full.
	Audit      func(context.Context, []AuditEvent) error
	AuditPoll  time.Duration
	AuditBatch int
}

// Defaults is a Config that lacks only the key-encryption key.
func Defaults() Config {
	return Config{
		Issuer: "sessiongate",

		RotateKeysEvery:    30 * 24 * time.Hour,
		KeyActivationDelay: 10 * time.Minute,

		AccessTokenLife:   time.Hour,
		SlidingLife:       30 * 24 * time.Hour,
		AbsoluteLife:      100 * 24 * time.Hour,
		RefreshAttemptMax: 10 * time.Second,
		IssuesMax:         20,
		FeedPoll:          200 * time.Millisecond,
		FeedBound:         time.Second,
		CachedTokens:      100_000,
		UnverifiedCPU:     5,
		PromotionQueue:    4096,
		PromotionBatch:    256,
		SweepPause:        time.Minute,
		SweepBatch:        500,
		Now:               time.Now,
		Observe:           func(Event) {},
		AuditPoll:         time.Second,
		AuditBatch:        500,
	}
}

func (c Config) keyEncryption() KeyEncryption {
	return KeyEncryption{Key: c.KeyEncryptionKey, Previous: c.PreviousKeyEncryptionKey}
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
		// A shorter-lived access token would expire while its own refresh is under way.
		return &InvalidError{"AccessTokenLife", "must be at least twice RefreshAttemptMax"}
	case c.SlidingLife < 2*c.AccessTokenLife+c.RefreshAttemptMax:
		return &InvalidError{"SlidingLife", "must be at least twice AccessTokenLife and RefreshAttemptMax on top"}
	case c.AbsoluteLife < c.SlidingLife:
		return &InvalidError{"AbsoluteLife", "must be at least SlidingLife"}
	case c.AbsoluteLife > AbsoluteLifeMax:
		// The refresh token would outlive the key that sealed it.
		return &InvalidError{"AbsoluteLife", "must be at most 400 days"}
	case c.KeyActivationDelay <= c.FeedBound:
		return &InvalidError{"KeyActivationDelay", "must be more than FeedBound"}
	case c.RotateKeysEvery < 4*c.KeyActivationDelay:
		return &InvalidError{"RotateKeysEvery", "must be at least four times KeyActivationDelay"}
	case c.IssuesMax < 1, c.FeedPoll <= 0, c.FeedBound < c.FeedPoll, c.CachedTokens < 1,
		c.PromotionQueue < 1, c.PromotionBatch < 1, c.SweepPause <= 0, c.SweepBatch < 1,
		c.AuditPoll <= 0, c.AuditBatch < 1:
		return &InvalidError{"Config", "counts and pauses must be positive, and FeedBound at least FeedPoll"}
	case c.UnverifiedCPU < 1 || c.UnverifiedCPU > 100:
		return &InvalidError{"UnverifiedCPU", "must be 1 to 100 percent"}
	case !c.RefreshesPerSession.ok(), !c.RefreshesPerAddress.ok():
		return &InvalidError{"RefreshesPerSession, RefreshesPerAddress", "must be 0 a second (no limit), or more with a positive burst"}
	case c.PerUser.Max < 0:
		return &InvalidError{"PerUser.Max", "must be 0 (no limit) or more"}
	case c.Now == nil || c.Observe == nil:
		return &InvalidError{"Config", "Now and Observe must be set"}
	}
	return nil
}
