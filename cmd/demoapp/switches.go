package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// The switches of the page: they end and start parts of the demo. This app does not own
// those processes. What started them does, and listens for this app alone.

const switchTimeout = 45 * time.Second // a Postgres that was killed recovers first

// elsewhere is why the switches of a host that is not this machine's are off.
const elsewhere = "Open this page as localhost: its switches are for this machine alone."

// unswitched is why there are no switches. What a hand can do instead follows.
const unswitched = "This page cannot do it: nothing here owns that process. "

// part is a process with a switch.
type part struct {
	Name  string `json:"name"`
	State string `json:"state"` // on, off, starting; "" if it is not known
	// Reason is why it cannot be switched.
	Reason string `json:"reason,omitempty"`
}

func (a *app) showSwitches(w http.ResponseWriter, r *http.Request) {
	if a.stage.controlURL == "" {
		a.json(w, http.StatusOK, []part{
			{Name: "postgres", Reason: unswitched + "Under docker compose, `docker compose kill postgres` ends it and `docker compose start postgres` brings it back."},
			{Name: "replica", Reason: unswitched + "Under docker compose, `docker compose scale sessiongate=1` ends one of the two and `docker compose scale sessiongate=2` brings it back."},
		})
		return
	}
	if !isLoopback(r.Host) {
		a.json(w, http.StatusOK, []part{{Name: "postgres", Reason: elsewhere}, {Name: "replica", Reason: elsewhere}})
		return
	}
	a.control(w, r, http.MethodGet, "/parts", nil)
}

// turn switches a part. It asks for the page's proof, which no other site can read, and for
// a name of this machine as the host: another site can have its own name lead here (DNS
// rebinding), and would then be of the same origin.
func (a *app) turn(w http.ResponseWriter, r *http.Request) {
	var body struct {
		plays

		On bool `json:"on"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, "that is no switch", http.StatusBadRequest)
		return
	}
	if !isLoopback(r.Host) {
		a.json(w, http.StatusForbidden, map[string]string{"message": elsewhere})
		return
	}
	if a.proven(w, body.plays) == nil {
		return
	}
	if a.stage.controlURL == "" {
		a.json(w, http.StatusConflict, map[string]string{"message": unswitched})
		return
	}
	a.control(w, r, http.MethodPost, "/parts/"+r.PathValue("part"), map[string]bool{"on": body.On})
}

func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// control asks what started the demo, and passes its answer on.
func (a *app) control(w http.ResponseWriter, r *http.Request, method, path string, body any) {
	ctx, cancel := context.WithTimeout(r.Context(), switchTimeout)
	defer cancel()
	status, answer, err := a.askControl(ctx, method, path, body)
	if err != nil {
		a.log.ErrorContext(ctx, "asking for a switch", "error", err)
		a.json(w, http.StatusBadGateway, map[string]string{"message": "What started the demo does not answer."})
		return
	}
	a.json(w, status, json.RawMessage(answer))
}

func (a *app) askControl(ctx context.Context, method, path string, body any) (int, []byte, error) {
	content, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, a.stage.controlURL+path, bytes.NewReader(content))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Authorization", "Bearer "+a.stage.controlSecret)
	response, err := controlClient.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return 0, nil, fmt.Errorf("reading the answer: %w", err)
	}
	return response.StatusCode, answer, nil
}

// controlClient keeps no connection and follows no redirect: the secret goes nowhere else.
var controlClient = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}
