package browser

import (
	"strings"
	"testing"
)

func TestParseTraceparent(t *testing.T) {
	t.Parallel()
	const trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	const good = "00-" + trace + "-" + span + "-01"
	for _, text := range []string{good, "00-" + trace + "-" + span + "-00", "01-" + trace + "-" + span + "-01", "cc-" + trace + "-" + span + "-01-what-comes"} {
		if traceID, spanID, ok := ParseTraceparent(text); !ok || traceID != trace || spanID != span {
			t.Errorf("%s: %s %s %t", text, traceID, spanID, ok)
		}
	}
	for name, text := range map[string]string{
		"none":                 "",
		"short":                good[:len(good)-1],
		"long":                 good + "-",
		"long, no dash":        "01-" + trace + "-" + span + "-011",
		"version ff":           "ff" + good[2:],
		"version no hex":       "0x" + good[2:],
		"upper case":           strings.ToUpper(good),
		"upper case in trace":  "00-" + strings.ToUpper(trace) + "-" + span + "-01",
		"trace of zeros":       "00-" + strings.Repeat("0", 32) + "-" + span + "-01",
		"span of zeros":        "00-" + trace + "-" + strings.Repeat("0", 16) + "-01",
		"no hex in trace":      "00-" + trace[:31] + "g-" + span + "-01",
		"no hex inside":        "00-" + trace[:15] + "\n" + trace[16:] + "-" + span + "-01",
		"no hex in span":       "00-" + trace + "-" + span[:15] + "\"-01",
		"no hex in flags":      "00-" + trace + "-" + span + "-0z",
		"dashes moved":         "00-" + trace + span[:1] + "-" + span[1:] + "-01",
		"space in front":       " " + good,
		"two, joined by Envoy": good + "," + good,
	} {
		if traceID, spanID, ok := ParseTraceparent(text); ok || traceID != "" || spanID != "" {
			t.Errorf("%s is taken: %q %q", name, traceID, spanID)
		}
	}
}

func TestIsRequestID(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"0af76519-16cd-43dd-8448-eb211c80319c": true, "0AF76519-16CD-43DD-8448-EB211C80319C": true,
		"": false, "0af7651916cd43dd8448eb211c80319c": false, "0af76519-16cd-43dd-8448-eb211c80319": false, "0af76519-16cd-43dd-8448-eb211c80319c0": false,
		"0af7651-916cd-43dd-8448-eb211c80319c": false, "0af76519-16cd-43dd-8448-eb211c80319g": false, "0af76519-16cd-43dd-8448-eb211c8031\n\n": false,
		strings.Repeat("-", 36): false, strings.Repeat("0", 36): false,
	} {
		if IsRequestID(text) != want {
			t.Errorf("%.5q: %t", text, !want)
		}
	}
}
