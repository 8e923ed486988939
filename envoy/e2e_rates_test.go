package envoy_test

import (
	"net/http"
	"strconv"
	"sync"
	"testing"
)

// TestRefreshRates: a client that refreshes too often waits, through Envoy. A flood of one session, and one of garbage, sign no one out, touch no
// cookie and no row, and cost honest clients beside them nothing.
func TestRefreshRates(t *testing.T) {
	s := newStack(t, stackOptions{settings: []string{
		"SESSIONGATE_REFRESH_PER_SESSION_RATE=1", "SESSIONGATE_REFRESH_PER_SESSION_BURST=20",
		"SESSIONGATE_REFRESH_PER_ADDRESS_RATE=5", "SESSIONGATE_REFRESH_PER_ADDRESS_BURST=40",
		"SESSIONGATE_SESSION_REFRESH_ATTEMPT_MAX=1m", // all of it within G: no refresh rotates
	}})
	looping, honest := s.newBrowser(networkV), s.newBrowser(networkX)
	handle := looping.signIn("alice")
	honest.signIn("bob")
	garbage := s.newBrowser(networkW)
	flood := func(b *browser, options ...option) (limited int) {
		var mu sync.Mutex
		var tabs sync.WaitGroup
		for range 8 {
			tabs.Go(func() {
				for range 50 {
					a := b.send(http.MethodPost, refreshPath, append([]option{script}, options...)...)
					if a.status != http.StatusTooManyRequests {
						continue
					}
					wait, err := strconv.Atoi(a.header.Get("Retry-After"))
					if err != nil || wait < 1 || a.header.Get("Cache-Control") != "no-store" || len(a.header.Values("Set-Cookie")) > 0 || a.header.Get("Id-Refresh-Token") != "" {
						t.Errorf("a refresh that has to wait: %v", a.header)
					}
					mu.Lock()
					limited++
					mu.Unlock()
				}
			})
		}
		tabs.Wait()
		return limited
	}
	ended := make(chan struct{})
	var floods sync.WaitGroup
	floods.Go(func() {
		if flood(garbage, without("Cookie"), with("Cookie", "sRefreshToken=sgr1_x")) == 0 {
			t.Error("garbage never has to wait")
		}
	})
	floods.Go(func() {
		if flood(looping) == 0 {
			t.Error("a client in a loop never has to wait")
		}
	})
	go func() { floods.Wait(); close(ended) }()
	for refreshes, done := 0, false; !done; {
		select {
		case <-ended:
			done = true
		default:
		}
		if refreshes++; refreshes <= 10 { // an honest number
			if a := honest.refresh(); a.status != http.StatusOK {
				t.Errorf("an honest refresh beside the floods: %d", a.status)
			}
		}
		honest.mustGet(t)
	}
	looping.mustGet(t)
	if n := s.endedFor(handle, "theft") + s.endedFor(handle, "refresh_abuse"); n != 0 || s.issues(handle) != 0 {
		t.Errorf("the flood ended %d sessions, and counted %d issues", n, s.issues(handle))
	}
}
