package sessionclient

import (
	"fmt"
	"io"
	"log/slog"
)

// Token is the text of a token. It prints as [redacted] under every verb and in every encoder, so
// that a log of a request or an answer holds none. string(t) reveals it.
type Token string

const redacted = "[redacted]"

func redact(s fmt.State) { _, _ = io.WriteString(s, redacted) }

// Format implements fmt.Formatter.
func (Token) Format(s fmt.State, _ rune) { redact(s) }

// LogValue implements slog.LogValuer.
func (Token) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format implements fmt.Formatter.
func (Answer) Format(s fmt.State, _ rune) { redact(s) }

// LogValue implements slog.LogValuer.
func (Answer) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (Answer) MarshalText() ([]byte, error) { return []byte(redacted), nil }
