package sessionhttp

import (
	"cmp"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"

	"github.com/sessiongate/sessiongate/sessions"
)

// transport is the one that a body names. The zero value: the body names none.
type transport sessions.Transport

func (t transport) orCookie() sessions.Transport {
	return cmp.Or(sessions.Transport(t), sessions.TransportCookie)
}

const allowedTransport = `"cookie" or "header"`

// UnmarshalText implements [encoding.TextUnmarshaler]. explain tells the caller what is
// allowed.
func (t *transport) UnmarshalText(text []byte) error {
	switch string(text) {
	case "cookie":
		*t = transport(sessions.TransportCookie)
	case "header":
		*t = transport(sessions.TransportHeader)
	default:
		return errors.New(allowedTransport)
	}
	return nil
}

// client is the browser that a request comes from, as a body describes it.
type client struct {
	Address   string `json:"address"`
	UserAgent string `json:"user_agent"`
}

// addr is the zero address where the body names none.
func (c client) addr() (netip.Addr, error) {
	if c.Address == "" {
		return netip.Addr{}, nil
	}
	addr, err := netip.ParseAddr(c.Address)
	if err != nil {
		return netip.Addr{}, &sessions.InvalidError{Field: "client.address", Allowed: "an IP address"}
	}
	return addr, nil
}

// read is the client and the device that a body describes.
func (c client) read(facts sessions.DeviceFacts) (sessions.Client, sessions.Device, error) {
	addr, err := c.addr()
	if err != nil {
		return sessions.Client{}, sessions.Device{}, err
	}
	if !addr.IsValid() && c.UserAgent == "" {
		return sessions.Client{}, sessions.Device{}, &sessions.InvalidError{Field: "client", Allowed: "address, user_agent or both"}
	}
	return sessions.NewClient(addr, c.UserAgent), facts.Of(addr, c.UserAgent), nil
}

var hostPattern = regexp.MustCompile(`^([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)

func checkHost(host string) error {
	if host != "" && !hostPattern.MatchString(host) {
		return &sessions.InvalidError{Field: "host", Allowed: "a host as in the browser's Host header, with or without port"}
	}
	return nil
}

// handleOf is the handle in the path. A text that is no handle is not found, without a
// query.
func handleOf(r *http.Request) (sessions.Handle, error) {
	handle, err := sessions.ParseHandle(r.PathValue("handle"))
	if err != nil {
		return handle, sessions.ErrNotFound
	}
	return handle, nil
}

// parameterOf is the value of the only query parameter that is allowed.
func parameterOf(r *http.Request, name string) (string, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(query) > 1 || len(query) == 1 && len(query[name]) != 1 {
		return "", &sessions.InvalidError{Field: "query", Allowed: "one parameter, " + name}
	}
	return query.Get(name), nil
}

// noQuery refuses query parameters, which would be ignored: they belong in the body, or to
// another operation.
func noQuery(r *http.Request) error {
	if r.URL.RawQuery != "" {
		return &sessions.InvalidError{Field: "query", Allowed: "no parameter here"}
	}
	return nil
}
