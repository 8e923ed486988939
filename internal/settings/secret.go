package settings

import (
	"fmt"
	"io"
)

// Secret is text that no log line, error or printed configuration may hold: it formats as
// [Redacted], whatever the verb or encoder. A conversion to string is the only way to the text.
type Secret string

// Redacted stands where a secret would.
const Redacted = "[redacted]"

// Format implements [fmt.Formatter], which comes before every other way of fmt.
func (Secret) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, Redacted) }

// MarshalText implements [encoding.TextMarshaler] for encoders, those of slog among them.
func (Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
