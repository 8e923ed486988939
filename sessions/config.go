package sessions

import (
	"context"
	"time"
	"unicode/utf8"
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
	// Binding is about sessions that browsers bind to their device.
	Binding Binding
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
		Binding:           Binding{AccessTokenLife: 10 * time.Minute, ChallengeLife: time.Minute, LostAfter: 10 * time.Minute},
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

// Faults are the rules between values that c breaks, and the values that no engine works with.
func (c Config) Faults() (all ConfigFaults) {
	all = all.Unless(c.KeyEncryptionKey != nil, "a key", "KeyEncryptionKey")
	all = all.Unless(c.Issuer != "" && utf8.ValidString(c.Issuer), "a text in UTF-8 that is not empty", "Issuer")
	all = all.Unless(c.RefreshAttemptMax >= time.Millisecond, "at least 1ms", "RefreshAttemptMax")
	// A shorter one would expire while its own refresh is under way.
	all = all.Unless(c.AccessTokenLife >= 2*c.RefreshAttemptMax, "AccessTokenLife at least twice RefreshAttemptMax", "AccessTokenLife", "RefreshAttemptMax")
	all = all.Unless(c.SlidingLife >= 2*c.AccessTokenLife+c.RefreshAttemptMax, "SlidingLife at least twice AccessTokenLife plus RefreshAttemptMax",
		"SlidingLife", "AccessTokenLife", "RefreshAttemptMax")
	all = all.Unless(c.AbsoluteLife >= c.SlidingLife, "AbsoluteLife at least SlidingLife", "AbsoluteLife", "SlidingLife")
	// The refresh token of a longer one would outlive the key that sealed it.
	all = all.Unless(c.AbsoluteLife <= AbsoluteLifeMax, "at most 400 days", "AbsoluteLife")
	// A browser proves its key some time before the token ends, and may sign only so often.
	all = all.Unless(c.Binding.AccessTokenLife >= 4*c.RefreshAttemptMax, "Binding.AccessTokenLife at least four times RefreshAttemptMax", "Binding.AccessTokenLife", "RefreshAttemptMax")
	all = all.Unless(!c.Binding.Offer || c.Binding.AccessTokenLife <= c.AccessTokenLife, "Binding.AccessTokenLife at most AccessTokenLife", "Binding.AccessTokenLife", "AccessTokenLife")
	all = all.Unless(c.Binding.ChallengeLife >= c.RefreshAttemptMax, "Binding.ChallengeLife at least RefreshAttemptMax", "Binding.ChallengeLife", "RefreshAttemptMax")
	all = all.Unless(c.KeyActivationDelay > c.FeedBound, "KeyActivationDelay more than FeedBound", "KeyActivationDelay", "FeedBound")
	all = all.Unless(c.RotateKeysEvery >= 4*c.KeyActivationDelay, "RotateKeysEvery at least four times KeyActivationDelay", "RotateKeysEvery", "KeyActivationDelay")
	for _, positive := range []struct {
		field string
		ok    bool
	}{
		{"IssuesMax", c.IssuesMax > 0},
		{"Binding.LostAfter", c.Binding.LostAfter > 0},
		{"FeedPoll", c.FeedPoll > 0},
		{"CachedTokens", c.CachedTokens > 0},
		{"PromotionBatch", c.PromotionBatch > 0},
		{"SweepPause", c.SweepPause > 0},
		{"SweepBatch", c.SweepBatch > 0},
		{"AuditPoll", c.AuditPoll > 0},
		{"AuditBatch", c.AuditBatch > 0},
	} {
		all = all.Unless(positive.ok, "more than 0", positive.field)
	}
	// One poll that is late by as long as it takes must not make the feed stale.
	all = all.Unless(c.FeedBound >= 2*c.FeedPoll, "FeedBound at least twice FeedPoll", "FeedBound", "FeedPoll")
	all = all.Unless(c.PromotionQueue >= c.PromotionBatch, "PromotionQueue at least PromotionBatch", "PromotionQueue", "PromotionBatch")
	all = all.Unless(c.UnverifiedCPU >= 1 && c.UnverifiedCPU <= 100, "1 to 100 percent", "UnverifiedCPU")
	all = all.Unless(c.RefreshesPerSession.ok(), "0 a second (no limit), or more with a positive burst", "RefreshesPerSession")
	all = all.Unless(c.RefreshesPerAddress.ok(), "0 a second (no limit), or more with a positive burst", "RefreshesPerAddress")
	all = all.Unless(c.PerUser.Max >= 0, "0 (no limit) or more", "PerUser.Max")
	all = all.Unless(c.Now != nil && c.Observe != nil, "Now and Observe that are set", "Config")
	return all
}
