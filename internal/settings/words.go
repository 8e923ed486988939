package settings

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// IsText refuses what a terminal, a log or a printed configuration would show as something
// else than it is.
func IsText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Quoted shows at most 100 bytes of s, and says so where there are more.
func Quoted(s string) string {
	const most = 100
	if len(s) > most {
		return fmt.Sprintf("%q and %d bytes more", s[:most], len(s)-most)
	}
	return strconv.Quote(s)
}

// QuoteUnlessPlain is s itself where it is plain text.
func QuoteUnlessPlain(s string) string {
	if IsText(s) {
		return s
	}
	return strconv.Quote(s)
}

// showable is what may be repeated of an unknown key: it looks like a name, and it is too
// short for a key or secret that a slip could have put in its place.
var showable = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,30}$`)

// FoundUnknown tells of an unknown key, and of the key that may be meant, if any.
func FoundUnknown(name, meant string) string {
	switch {
	case !showable.MatchString(name):
		return "an unknown key (not shown)"
	case meant != "":
		return fmt.Sprintf("the unknown key %s (did you mean %s?)", name, meant)
	default:
		return "the unknown key " + name
	}
}
