package settings

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestUnitsReadBackWhatTheyPrint(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, math.MaxInt64/int64(time.Millisecond)).Draw(t, "ms")) * time.Millisecond
		if n, ok := parseUnits(FormatDuration(d), durationUnits); !ok || time.Duration(n) != d {
			t.Fatalf("%v printed as %s, read as %v, %v", d, FormatDuration(d), time.Duration(n), ok)
		}
		b := rapid.Int64Min(0).Draw(t, "bytes")
		if n, ok := parseUnits(formatUnits(b, sizeUnits), sizeUnits); !ok || n != b {
			t.Fatalf("%d printed as %s, read as %d, %v", b, formatUnits(b, sizeUnits), n, ok)
		}
	})
}

func TestParseUnits(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0s": 0, "0ms": 0, "1d2h3m4s5ms": 26*time.Hour + 3*time.Minute + 4*time.Second + 5*time.Millisecond, "90m": 90 * time.Minute, "1h500ms": time.Hour + 500*time.Millisecond,
	} {
		if n, ok := parseUnits(text, durationUnits); !ok || time.Duration(n) != want {
			t.Errorf("%s: %v, %v", text, time.Duration(n), ok)
		}
	}
	for _, text := range []string{
		"", "0", "5", "s", "1 s", " 1s", "1s ", "01s", "00s", "1.5s", ".5s", "+1s", "-1s", "1s1s", "1m1h", "1H", "1us", "1e3s", "1_0s", "١s",
		"106752d", "106751d24h", "9223372036855s", "99999999999999999999s",
	} {
		if n, ok := parseUnits(text, durationUnits); ok {
			t.Errorf("%q is taken as %v", text, time.Duration(n))
		}
	}
}
