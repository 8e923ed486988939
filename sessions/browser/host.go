package browser

import (
	"net/netip"
	"strings"
)

// HostMax bounds a host name, in bytes (RFC 1035 §2.3.4).
const HostMax = 253

// IsHost says whether text, a request's Host, is a name or an address, with or without a port (RFC
// 9110 §7.2). Each server reads anything else in its own way, which an attacker could use: two Host
// lines, which Envoy joins with a comma; a user before an @; no host at all.
func IsHost(text string) bool {
	var buf [HostMax]byte
	_, ok := AppendHost(buf[:0], text)
	return ok
}

// AppendHost appends a request's host to buf, up to its capacity: without the port, in lower case.
// "a.example." is a.example (RFC 1034 §3.1). For an address in brackets (RFC 3986 §3.2.2) it
// appends nothing. It returns false if [IsHost] is false.
func AppendHost(buf []byte, host string) ([]byte, bool) {
	name, port, hasPort := strings.Cut(host, ":")
	if strings.HasPrefix(host, "[") {
		address, rest, _ := strings.Cut(host[1:], "]")
		if ip, err := netip.ParseAddr(address); err != nil || !ip.Is6() || ip.Zone() != "" || rest != "" && rest[0] != ':' || len(host) == 1+len(address) {
			return buf, false
		}
		name, port, hasPort = "", strings.TrimPrefix(rest, ":"), rest != ""
	} else if name = strings.TrimSuffix(name, "."); name == "" {
		return buf, false
	}
	if hasPort && !isPort(port) || len(name) > cap(buf) {
		return buf, false
	}
	for i := range len(name) {
		c := name[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		case c == '.' && i > 0 && i < len(name)-1 && name[i-1] != '.':
		default:
			return buf, false
		}
		buf = append(buf, c)
	}
	return buf, true
}

func isPort(text string) bool {
	return text != "" && len(text) <= len("65535") && strings.Trim(text, "0123456789") == "" && (len(text) < len("65535") || text <= "65535")
}
