package sessions

import (
	"fmt"
	"io"
	"log/slog"
)

// A secret must not appear in a log, an error or the text of a panic. These types print [redacted]
// under every verb, also a wrong one, and in every encoder. The receivers are values, because a
// copy is as secret. Under %p and %w, and for fields that are not exported, fmt calls no method:
// there the key-encryption key shows a pointer.
const redacted = "[redacted]"

func redact(s fmt.State) { _, _ = io.WriteString(s, redacted) }

// Format implements fmt.Formatter.
func (Token) Format(s fmt.State, _ rune) { redact(s) }

// LogValue implements slog.LogValuer.
func (Token) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format implements fmt.Formatter. It prints what fmt would print without it, except for a pointer
// under a wrong verb: there fmt would print the tokens without asking their methods.
func (i Issued) Format(s fmt.State, verb rune) {
	type fields Issued
	_, _ = fmt.Fprintf(s, fmt.FormatString(s, verb), fields(i))
}

// carried is in each type that has what a request carries: texts, which may be tokens.
type carried struct{}

// Format implements fmt.Formatter.
func (carried) Format(s fmt.State, _ rune) { redact(s) }

// LogValue implements slog.LogValuer.
func (carried) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (carried) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format implements fmt.Formatter.
func (KeyEncryptionKey) Format(s fmt.State, _ rune) { redact(s) }

// String implements fmt.Stringer.
func (KeyEncryptionKey) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (KeyEncryptionKey) GoString() string { return redacted }

// LogValue implements slog.LogValuer.
func (KeyEncryptionKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (KeyEncryptionKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// name is what may be printed of a stored key. Its wrapped secret is for the store only.
func (s StoredKey) name() string { return fmt.Sprintf("%s/%d/%s", s.Kind, s.Generation, s.ID) }

// Format implements fmt.Formatter.
func (s StoredKey) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, s.name()) }

// LogValue implements slog.LogValuer.
func (s StoredKey) LogValue() slog.Value { return slog.StringValue(s.name()) }

// MarshalText implements encoding.TextMarshaler.
func (s StoredKey) MarshalText() ([]byte, error) { return []byte(s.name()), nil }

// These types leave the package only by mistake.
func (sealingKey) Format(s fmt.State, _ rune)   { redact(s) }
func (signingKey) Format(s fmt.State, _ rune)   { redact(s) }
func (keyring) Format(s fmt.State, _ rune)      { redact(s) }
func (refreshToken) Format(s fmt.State, _ rune) { redact(s) }
func (antiCSRF) Format(s fmt.State, _ rune)     { redact(s) }
func (antiCSRF) MarshalText() ([]byte, error)   { return []byte(redacted), nil }
func (minted) Format(s fmt.State, _ rune)       { redact(s) }
func (tokenText) Format(s fmt.State, _ rune)    { redact(s) }
