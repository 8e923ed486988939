package settings

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

type unit struct {
	name string
	size int64
}

// From largest to smallest; the last is the resolution of the kind.
var (
	durationUnits = []unit{
		{"d", int64(24 * time.Hour)},
		{"h", int64(time.Hour)},
		{"m", int64(time.Minute)},
		{"s", int64(time.Second)},
		{"ms", int64(time.Millisecond)},
	}
	sizeUnits = []unit{{"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
)

// FormatDuration is the text that [Duration] reads.
func FormatDuration(d time.Duration) string { return formatUnits(int64(d), durationUnits) }

// FormatSize is the text that [Size] reads.
func FormatSize(bytes int) string { return formatUnits(int64(bytes), sizeUnits) }

// parseUnits reads counts with units, largest first, each at most once. Counts
// are whole, for [time.ParseDuration] silently cuts 0.1ns to 0. A number
// without unit is refused, for nobody sees whether 10 means seconds.
func parseUnits(s string, units []unit) (int64, bool) {
	var total int64
	for s != "" {
		end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
		if end < 1 || (s[0] == '0' && end > 1) {
			return 0, false
		}
		count, err := strconv.ParseInt(s[:end], 10, 64)
		if err != nil {
			return 0, false
		}
		s = s[end:]
		end = strings.IndexAny(s, "0123456789")
		if end < 0 {
			end = len(s)
		}
		i := slices.IndexFunc(units, func(u unit) bool { return u.name == s[:end] })
		if i < 0 || count > (math.MaxInt64-total)/units[i].size {
			return 0, false
		}
		total += count * units[i].size
		units, s = units[i+1:], s[end:]
		if s == "" {
			return total, true
		}
	}
	return 0, false
}

func formatUnits(n int64, units []unit) string {
	if n == 0 {
		return "0" + units[max(0, len(units)-2)].name
	}
	var b strings.Builder
	for _, u := range units {
		if n >= u.size {
			fmt.Fprintf(&b, "%d%s", n/u.size, u.name)
			n %= u.size
		}
	}
	return b.String()
}

// unitsPattern is the regular expression of what parseUnits reads.
func unitsPattern(units []unit) string {
	var b strings.Builder
	b.WriteString("^")
	for _, u := range units {
		fmt.Fprintf(&b, "((0|[1-9][0-9]*)%s)?", u.name)
	}
	return b.String() + "$"
}
