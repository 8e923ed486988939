package authz

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
)

// extensionSets remembers the context_extensions that came, by their bytes. Each route of Envoy's
// sends the same set with every request, so one map serves all of them. Reading takes no lock.
type extensionSets struct {
	known atomic.Pointer[map[string]map[string]string]
	mu    sync.Mutex // of who adds one
}

// setsMax and setMax bound what is remembered: a set is for each route, in each order in which Envoy
// may write it, and has a few keys. What is beyond is read each time.
const (
	setsMax = 1000
	setMax  = 4 << 10 // bytes
)

var extensions extensionSets

// get returns a set that must not be changed, or nil.
func (s *extensionSets) get(wire string) map[string]string {
	if known := s.known.Load(); known != nil {
		return (*known)[wire]
	}
	return nil
}

// add remembers a set.
func (s *extensionSets) add(wire string, set map[string]string) {
	if len(wire) > setMax {
		return
	}
	own := make(map[string]string, len(set))
	for key, value := range set {
		own[strings.Clone(key)] = strings.Clone(value)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[string]map[string]string{}
	if known := s.known.Load(); known != nil {
		if len(*known) >= setsMax {
			return
		}
		maps.Copy(next, *known)
	}
	next[strings.Clone(wire)] = own
	s.known.Store(&next)
}
