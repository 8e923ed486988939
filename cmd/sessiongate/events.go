package main

import (
	"context"
	"log/slog"

	"github.com/sessiongate/sessiongate/sessions"
)

// logEvent writes the engine's events as log lines. They hold no token.
func logEvent(ctx context.Context, log *slog.Logger, e sessions.Event) {
	if e.Kind == sessions.EventRefreshAnswered {
		return // to be counted; the events before it are the lines
	}
	level, message := slog.LevelDebug, string(e.Kind)
	switch e.Kind {
	case sessions.EventEnded:
		level, message = slog.LevelInfo, "session ended"
		if e.Reason == sessions.ReasonTheft || e.Reason == sessions.ReasonRefreshAbuse {
			level = slog.LevelWarn
		}
	case sessions.EventReady:
		level, message = slog.LevelInfo, "ready: keys and feed have been read"
	case sessions.EventStartRetried:
		level, message = slog.LevelWarn, "keys and feed could not be read; trying again"
	case sessions.EventFeedFailed:
		level, message = slog.LevelWarn, "the feed cannot be read; unexpired access tokens stay allowed"
	case sessions.EventFeedRecovered:
		level, message = slog.LevelInfo, "the feed is read again"
	case sessions.EventPromotionsFailed:
		level, message = slog.LevelWarn, "promotions failed; they are made up for by the next use"
	case sessions.EventSweepFailed:
		level, message = slog.LevelWarn, "expired rows could not be removed; trying again"
	case sessions.EventCountFailed:
		level, message = slog.LevelWarn, "sessions could not be counted; trying again"
	case sessions.EventKeyAdded:
		level, message = slog.LevelInfo, "a key was made and published"
	case sessions.EventKeyDeleted:
		level, message = slog.LevelInfo, "a retired key was deleted"
	case sessions.EventKeysFailed:
		level, message = slog.LevelWarn, "keys could not be rotated or deleted; trying again"
	case sessions.EventKeysUnreadable:
		level, message = slog.LevelError, "the database holds keys that the given key-encryption keys do not open; serving with those that were read before"
	case sessions.EventAuditFailed:
		level, message = slog.LevelWarn, "audit events cannot be delivered; they are kept in the database"
	case sessions.EventAuditRecovered:
		level, message = slog.LevelInfo, "audit events are delivered again"
	case sessions.EventBound:
		level, message = slog.LevelInfo, "session bound to a device"
	case sessions.EventUnproven:
		level, message = slog.LevelInfo, "no proof of the device's key; nothing changed"
	case sessions.EventKeyLost:
		level, message = slog.LevelInfo, "no device session any more; the user is sent to sign in"
	case sessions.EventProofRefused:
		level, message = slog.LevelWarn, "a proof that is not of the session's key; nothing changed"
	case sessions.EventReportFailed:
		level, message = slog.LevelWarn, "an audit event of a bound session could not be written; the next one is tried"
	case sessions.EventKeyRegistered, sessions.EventCreated, sessions.EventRefreshed, sessions.EventSuperseded, sessions.EventRefreshRefused,
		sessions.EventPromoted, sessions.EventSwept, sessions.EventClaims, sessions.EventRefreshAnswered, sessions.EventAudited:
	}
	if !log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 8)
	add := func(name, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(name, value))
		}
	}
	if e.Handle != (sessions.Handle{}) {
		add("session", e.Handle.String())
	}
	add("user_id", e.UserID)
	add("rule", string(e.Rule))
	add("reason", string(e.Reason))
	add("actor", e.Actor)
	if e.Count > 0 {
		attrs = append(attrs, slog.Int("count", e.Count))
	}
	if e.Key != nil {
		add("kind", string(e.Key.Kind))
		attrs = append(attrs, slog.Int("generation", e.Key.Generation))
		add("key", e.Key.ID.String())
	}
	if e.Err != nil {
		add("error", e.Err.Error())
	}
	log.LogAttrs(ctx, level, message, attrs...)
}
