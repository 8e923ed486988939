package sessions

import (
	"net/netip"
	"strings"
	"time"
	"unicode"
)

// Device is what a session's user may recognise the session by. It is for people alone: no rule of the
// protocol reads it, for the client chooses one part of it and shares the other. [Client] is what
// rules read. The zero value means "not kept". Devices are comparable.
type Device struct {
	// Address is the one of the client, with all its bits, or its network.
	Address netip.Prefix
	// UserAgent is what the client calls itself, cleaned. It is an attacker's text: it is shown to the
	// session's user and to operators, and logged nowhere.
	UserAgent string
}

// AddressDetail is how much of an address a [Device] keeps.
type AddressDetail uint8

// The details: nothing, the network (/24 or /64), the whole address.
const (
	AddressNone AddressDetail = iota
	AddressNetwork
	AddressFull
)

// AddressDetails are their names, each at the place of its value.
func AddressDetails() []string { return []string{"none", "network", "full"} }

// DeviceFacts says what is kept of a device. The zero value keeps nothing.
type DeviceFacts struct {
	Address   AddressDetail
	UserAgent bool
}

// UserAgentMax is how many characters are kept of a User-Agent. A browser sends some 120.
const UserAgentMax = 200

// Of is the device of a request from an address with a User-Agent. An invalid address adds nothing.
func (f DeviceFacts) Of(addr netip.Addr, userAgent string) (d Device) {
	switch f.Address {
	case AddressFull:
		if addr.IsValid() {
			addr = addr.Unmap().WithZone("")
			d.Address = netip.PrefixFrom(addr, addr.BitLen())
		}
	case AddressNetwork:
		d.Address, _ = networkOf(addr) // the zero one where it is invalid
	case AddressNone:
	}
	if f.UserAgent {
		d.UserAgent = readable(userAgent)
	}
	return d
}

// AddressText is the address or the network as people write it, or empty.
func (d Device) AddressText() string {
	switch {
	case !d.Address.IsValid():
		return ""
	case d.Address.IsSingleIP():
		return d.Address.Addr().String()
	default:
		return d.Address.String()
	}
}

// readable is the part of a client's text that a page or a terminal shows as it is: letters, digits,
// punctuation and symbols, with single spaces between. What it leaves out moves a terminal's cursor,
// turns the direction of the text around it, stacks on other characters or is invisible: by these an
// attacker's session could look like another one, or hide in a list.
func readable(text string) string {
	var b strings.Builder
	kept, space := 0, false
	for _, r := range text { // a byte that is no UTF-8 comes as U+FFFD, a symbol
		switch {
		case unicode.IsSpace(r):
			space = kept > 0
			continue
		case !unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S), r == '\u2800', // a symbol without a dot
			unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r):
			continue
		}
		if space {
			if kept++; kept >= UserAgentMax {
				break
			}
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
		if kept++; kept == UserAgentMax {
			break
		}
	}
	return b.String()
}

// LastSeen is the last use of the session that its row knows: the latest of the last refresh that issued
// a refresh token, and the first use of the current one. A client that is active refreshes as often as
// its access token expires, so LastSeen is late by that at most. No check writes a more exact one:
// checks read memory only.
func (r Row) LastSeen() time.Time { return later(later(r.PromotedAt, r.IssuedAt), r.BoundAt) }
