package main

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// What passed on the wire, for the page to show. No token is kept: each is shortened
// before it is noted.

const passagesMax = 400

// wire remembers the latest requests by the names that the page gave them. A name is
// random: the page that knows it has sent the request.
type wire struct {
	mu       sync.Mutex
	passages *recent[*passage]
}

// passage is one request on its way, as far as it came.
type passage struct {
	Request *message `json:"request"`
	App     *message `json:"app"` // what the app received; null: the request did not get there
	Answer  *message `json:"answer"`
	Lost    bool     `json:"lost,omitempty"` // the answer did not reach the browser
	Curl    string   `json:"curl"`
}

// message is a request or an answer without its body.
type message struct {
	Line    string  `json:"line"`
	Headers []field `json:"headers"`
}

// field is a header.
type field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// By is who set it, where that was not the sender.
	By string `json:"by,omitempty"`
}

func newWire() *wire { return &wire{passages: newRecent[*passage](passagesMax)} }

func (w *wire) note(name string, change func(*passage)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.passages.get(name)
	if !ok {
		p = &passage{}
		w.passages.add(name, p)
	}
	change(p)
}

// sent notes a request as Envoy gets it.
func (w *wire) sent(name string, r *http.Request) {
	header := r.Header.Clone()
	header.Set("Host", r.Host)
	request := &message{r.Method + " " + r.URL.Path, fields(header, nil)}
	command := curl(r.Method, "http://"+r.Host+r.URL.Path, header)
	w.note(name, func(p *passage) { p.Request, p.Curl = request, command })
}

// received notes a request as the app gets it.
func (w *wire) received(name string, r *http.Request) {
	got := &message{r.Method + " " + r.URL.Path, fields(r.Header, setOnTheWay)}
	w.note(name, func(p *passage) { p.App = got })
}

// answered notes an answer as it leaves Envoy.
func (w *wire) answered(name string, status int, header http.Header, lost bool) {
	line := strconv.Itoa(status) + " " + http.StatusText(status) // 440 has no text
	answer := &message{strings.TrimSpace(line), fields(header, setBySessiongate)}
	w.note(name, func(p *passage) { p.Answer, p.Lost = answer, lost })
}

// look is what is known of a request, if anything is.
func (w *wire) look(name string) (passage, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.passages.get(name)
	if !ok {
		return passage{}, false
	}
	return *p, true
}

// setOnTheWay says who set a header that the app received.
func setOnTheWay(name string) string {
	switch {
	case strings.HasPrefix(name, "x-session-"):
		return "sessiongate"
	case strings.HasPrefix(name, "x-forwarded-"), strings.HasPrefix(name, "x-envoy-"), name == "x-request-id":
		return "Envoy"
	}
	return ""
}

func setBySessiongate(name string) string {
	switch name {
	case "set-cookie", "front-token", "anti-csrf", "id-refresh-token", "x-sessiongate-denial", "secure-session-registration", "secure-session-challenge":
		return "sessiongate"
	}
	return ""
}

// dull are headers that tell nothing of sessions, and the stage's own.
func dull(name string) bool {
	return strings.HasPrefix(name, "x-stage-") || strings.HasPrefix(name, "sec-ch-") ||
		slices.Contains([]string{"accept-encoding", "accept-language", "connection", "cache-control", "pragma", "dnt", "date", "content-length", "content-security-policy", "referrer-policy", "x-content-type-options", "vary", "priority"}, name)
}

// fields are headers in a fixed order, those first that someone on the way has set.
func fields(header http.Header, by func(name string) string) []field {
	all := []field{}
	for name, values := range header {
		name = strings.ToLower(name)
		if dull(name) {
			continue
		}
		for _, value := range values {
			f := field{Name: name, Value: shortened(name, value)}
			if by != nil {
				f.By = by(name)
			}
			all = append(all, f)
		}
	}
	slices.SortStableFunc(all, func(a, b field) int {
		if (a.By == "sessiongate") != (b.By == "sessiongate") {
			if a.By == "sessiongate" {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}

// shortened is a header's value without a whole token: half a cookie is worth nothing to a
// person who looks on.
func shortened(name, value string) string {
	switch name {
	case "cookie":
		return eachCookie(value, func(_, token string) string { return short(token) })
	case "set-cookie":
		pair, attributes, _ := strings.Cut(value, ";")
		pair = eachCookie(pair, func(_, token string) string { return short(token) })
		if attributes == "" {
			return pair
		}
		return pair + ";" + attributes
	case "anti-csrf", "authorization", "front-token", "id-refresh-token", "st-access-token", "st-refresh-token", "secure-session-response":
		return short(value)
	case "secure-session-registration", "secure-session-challenge", "sec-secure-session-id", "secure-session-skipped":
		return sealed.ReplaceAllStringFunc(value, short)
	}
	return value
}

// sealed are challenges and identifiers of device sessions.
var sealed = regexp.MustCompile(`sg[cd]1_[^"]+`)

// short keeps the first and last few characters.
func short(token string) string {
	const first, last = 6, 4
	switch n := len(token); {
	case n == 0:
		return ""
	case n < 3*(first+last):
		return token[:min(n/3, first)] + "…"
	default:
		return token[:first] + "…" + token[n-last:]
	}
}

func eachCookie(line string, change func(name, value string) string) string {
	pairs := strings.Split(line, ";")
	for i, pair := range pairs {
		name, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if ok {
			pairs[i] = name + "=" + change(name, value)
		}
	}
	return strings.Join(pairs, "; ")
}

// placeholders stand in a command for what a person has to fill in.
var placeholders = map[string]string{
	"sAccessToken":  "$ACCESS_TOKEN",
	"sRefreshToken": "$REFRESH_TOKEN",
	"anti-csrf":     "$ANTI_CSRF",
}

// curl is the command that sends such a request. It holds no token, but the names of
// shell variables in their place. What a browser says of itself stays: without it, the
// check would ask for the anti-CSRF token.
func curl(method, address string, header http.Header) string {
	parts := []string{"curl -i -X " + method + " " + quoted(address)}
	names := []string{}
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		lower := strings.ToLower(name)
		switch {
		case lower == "accept", lower == "content-type", lower == "origin", lower == "user-agent", strings.HasPrefix(lower, "sec-fetch-"):
			for _, value := range header[name] {
				parts = append(parts, "-H "+quoted(lower+": "+value))
			}
		case lower == "anti-csrf" && header.Get(name) != "":
			parts = append(parts, `-H "anti-csrf: `+placeholders[lower]+`"`)
		case lower == "cookie":
			var known []string
			for _, line := range header[name] {
				for pair := range strings.SplitSeq(line, ";") {
					cookie, _, _ := strings.Cut(strings.TrimSpace(pair), "=")
					if variable, ok := placeholders[cookie]; ok {
						known = append(known, cookie+"="+variable)
					}
				}
			}
			if len(known) > 0 {
				parts = append(parts, `-H "cookie: `+strings.Join(known, "; ")+`"`)
			}
		}
	}
	if method == http.MethodPost && strings.HasPrefix(header.Get("Content-Type"), "application/json") {
		parts = append(parts, `-d '{"user": "ada"}'`) // of this page's calls, the sign-in alone has a body
	}
	return strings.Join(parts, " \\\n  ")
}

// quoted is text as a shell takes it for one word, whatever is in it.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
