package sessionclient

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
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

// The types below hold tokens or an Answer in exported fields. Without a Format of their own, fmt
// asks no method where a pointer to one is inside another value and the verb fits no pointer, as
// in %s of a []*Created: it would print the tokens.
//
// A limit remains where fmt calls no method at all: under %p and %w, in fields that are not
// exported, and, under such a verb, behind an inner pointer to a type of the caller's own, as in %s
// of a []*[]Token. There a token, or a cookie of an Answer, may be printed.

// printFields prints what fmt would print of a struct. v has no methods.
func printFields(s fmt.State, verb rune, v any) {
	_, _ = fmt.Fprintf(s, fmt.FormatString(s, verb), v)
}

// Format implements fmt.Formatter.
func (c Created) Format(s fmt.State, verb rune) {
	type fields Created
	printFields(s, verb, fields(c))
}

// Format implements fmt.Formatter.
func (r Refreshed) Format(s fmt.State, verb rune) {
	type fields Refreshed
	printFields(s, verb, fields(r))
}

// Format implements fmt.Formatter.
func (u Updated) Format(s fmt.State, verb rune) {
	type fields Updated
	printFields(s, verb, fields(u))
}

// Format implements fmt.Formatter.
func (e Ended) Format(s fmt.State, verb rune) {
	type fields Ended
	printFields(s, verb, fields(e))
}

// Format implements fmt.Formatter.
func (t Tokens) Format(s fmt.State, verb rune) {
	type fields Tokens
	printFields(s, verb, fields(t))
}

// Format implements fmt.Formatter.
func (p Presented) Format(s fmt.State, verb rune) {
	type fields Presented
	printFields(s, verb, fields(p))
}

// Format implements fmt.Formatter.
func (r RefreshRequest) Format(s fmt.State, verb rune) {
	type fields RefreshRequest
	printFields(s, verb, fields(r))
}

// Format implements fmt.Formatter.
func (c Change) Format(s fmt.State, verb rune) {
	type fields Change
	printFields(s, verb, fields(c))
}

// Format implements fmt.Formatter. It prints the text of Error under the verbs for which fmt would.
func (e *Error) Format(s fmt.State, verb rune) {
	if strings.ContainsRune("vsxXq", verb) && (verb != 'v' || !s.Flag('#')) {
		_, _ = fmt.Fprintf(s, fmt.FormatString(s, verb), e.Error())
		return
	}
	type fields Error
	printFields(s, verb, fields(*e))
}
