package browser

import "strings"

// ParseTraceparent reads the W3C Trace Context header traceparent (Level 1, §3.2), so that log
// lines can be joined with the traces of other systems. Nothing is decided by it. Any client can
// send one, so only the exact form is accepted: lower-case hex of the given lengths, and no id of
// zeros. Of a future version, only the part that all versions share is read (§3.2.4). Anything else
// is no trace.
func ParseTraceparent(text string) (traceID, spanID string, ok bool) {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if len(text) < length || text[2] != '-' || text[35] != '-' || text[52] != '-' {
		return "", "", false
	}
	version := text[:2]
	traceID, spanID = text[3:35], text[36:52]
	switch {
	case version == "ff", version == "00" && len(text) != length, len(text) > length && text[length] != '-':
		return "", "", false
	case !isLowerHex(version), !isLowerHex(traceID), !isLowerHex(spanID), !isLowerHex(text[53:length]):
		return "", "", false
	case strings.Trim(traceID, "0") == "", strings.Trim(spanID, "0") == "":
		return "", "", false
	}
	return traceID, spanID, true
}

func isLowerHex(text string) bool {
	return strings.Trim(text, "0123456789abcdef") == ""
}

// IsRequestID says whether text is a UUID (RFC 9562), which Envoy makes for x-request-id. Only a
// UUID is logged: the header may come from an attacker, and none of our secrets has that form.
func IsRequestID(text string) bool {
	if len(text) != len("0af76519-16cd-43dd-8448-eb211c80319c") {
		return false
	}
	for i := range len(text) {
		isDash := i == 8 || i == 13 || i == 18 || i == 23
		if isDash != (text[i] == '-') || !isDash && strings.IndexByte("0123456789abcdefABCDEF", text[i]) < 0 {
			return false
		}
	}
	return true
}
