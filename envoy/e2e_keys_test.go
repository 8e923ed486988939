package envoy_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// TestKeysUnderLoad has browsers check and refresh, and a backend verify their access tokens by itself, without a pause while keys are
// rotated, wrapped under another key-encryption key, and deleted. No one is denied because of it.
func TestKeysUnderLoad(t *testing.T) {
	t.Parallel()
	next := newSecret()
	// D of a minute: G and W outlast the steps of this test.
	o := stackOptions{settings: []string{"SESSIONGATE_KEY_PREVIOUS=" + next, "SESSIONGATE_SESSION_REFRESH_ATTEMPT_MAX=1m"}}
	s := newStack(t, o)
	s.secrets.add(next)
	idle := s.newBrowser(networkV)
	idle.signIn("idle") // and comes back at the very end
	pair := s.newBrowser(networkV)
	handle := pair.signIn("pair")
	l := newKeyLoad(s)
	first := l.signers()
	if len(first) != 1 {
		t.Fatalf("%d keys sign", len(first))
	}
	early := l.browsers[0].access()

	// Rotated: published everywhere, used by no replica.
	l.during(func() {
		if out := s.mustRun(nil, "keys", "rotate"); strings.Count(out, "made generation 2") != 2 {
			t.Errorf("printed %q", out)
		}
		s.publish(2)
	})
	if out, err := s.run(nil, "keys", "rotate"); err == nil || strings.Count(out, "becomes active at") != 2 {
		t.Errorf("a second time: %v, printed %q", err, out)
	}
	s.advance(s.untilActive() - 30*time.Second)
	l.during(func() {})
	if now := l.signers(); !slices.Equal(now, first) {
		t.Errorf("signed by %q before that is active, want %q", now, first)
	}

	// In use, while everyone is at work; and a refresh that is repeated across it.
	before := pair.send(http.MethodPost, refreshPath, script)
	s.advance(s.untilActive() - moment)
	l.during(func() {
		s.eventually("the new key signs", func() bool { return len(l.signers()) == 2 })
		s.eventually("it is active", func() bool { return s.untilActive() <= 0 })
	})
	after := pair.send(http.MethodPost, refreshPath, script)
	one, two := pair.stolenBy(networkV), pair.stolenBy(networkV)
	one.take(before)
	two.take(after)
	if a, b := sealedBy(one.cookie("sRefreshToken")), sealedBy(two.cookie("sRefreshToken")); a == b || a != sealedBy(idle.cookie("sRefreshToken")) {
		t.Errorf("sealed by %s, then by %s", a, b)
	}
	one.use(handle)
	for _, b := range []*browser{two, one} { // two repeats of one refresh hold one token
		if b.mustRefresh(t) {
			t.Error("the repeat's token was not the current one")
		}
		b.mustGet(t)
	}

	// Wrapped again, under the key-encryption key that the processes have as the previous one.
	old := s.wrappers()
	l.during(func() {
		if out := s.mustRun([]string{"SESSIONGATE_KEY=" + next, "SESSIONGATE_KEY_PREVIOUS=" + s.key}, "keys", "rewrap"); !strings.HasPrefix(out, "rewrapped 4 of 4 keys\n") {
			t.Errorf("printed %q", out)
		}
		s.publish(2)
	})
	if now := s.wrappers(); len(now) != 1 || slices.Equal(now, old) {
		t.Errorf("wrapped under %q, before under %q", now, old)
	}
	if out, err := s.run(nil, "keys", "rotate"); err == nil || !strings.Contains(out, "is wrapped under key-encryption key "+s.wrappers()[0]) {
		t.Errorf("with the old key-encryption key: %v, printed %q", err, out)
	}
	l.during(func() {
		s.mustRun([]string{"SESSIONGATE_KEY=" + next}, "keys", "rotate")
		s.publish(3)
	})
	s.advance(s.untilActive() + moment)
	l.during(func() { s.eventually("the third key signs", func() bool { return len(l.signers()) == 3 }) })

	// Deleted: the first two signing keys, by a process that starts. The access tokens of everyone are long expired before.
	s.advance(26 * time.Hour)
	for _, b := range l.browsers {
		if a := b.do(http.MethodGet, "/", script); a.status != 440 {
			t.Errorf("after a day: %d", a.status)
		}
		b.mustRefresh(t)
	}
	l.during(func() {
		file, err := program()
		if err != nil {
			t.Error(err)
			return
		}
		third := s.launch(file, "sessiongate-3", o)
		third.awaitAddresses()
		third.awaitReady()
		s.publish(1)
		// The others look once a minute, and may come first.
		s.eventually("a process deletes what has retired", func() bool {
			return slices.ContainsFunc(append(slices.Clone(s.processes), third), func(p *replica) bool { return p.wrote("a retired key was deleted") })
		})
	})
	if n := s.count(`SELECT count(*) FROM sessiongate.keys WHERE kind = 'sealing'`); n != 3 {
		t.Errorf("%d sealing keys, want 3", n)
	}
	for _, p := range s.processes {
		if status := p.check(early, l.browsers[0].antiCSRF); status != 440 {
			t.Errorf("%s: a token of a deleted key: %d", p.name, status)
		}
	}
	if !idle.mustRefresh(t) { // sealed by the first key
		t.Error("no new refresh token")
	}
	idle.mustGet(t)
	if n := s.count(`SELECT count(*) FROM sessiongate.audit_events WHERE user_id <> 'clock'`); n != 0 {
		t.Errorf("%d sessions ended", n)
	}
	l.enough()
}

// keyLoad is browsers that never rest, and a backend that verifies what they hold.
type keyLoad struct {
	*stack

	browsers []*browser
	backend  backend

	mu       sync.Mutex
	signed   map[string]bool // by key
	requests int
}

// rounds is how often each browser checks and refreshes during a step at least.
const rounds = 5

func newKeyLoad(s *stack) *keyLoad {
	l := &keyLoad{stack: s, signed: map[string]bool{}, backend: backend{stack: s}}
	for i, network := range []string{networkV, networkW, networkX, networkV} {
		b := s.newBrowser(network)
		b.signIn("user-" + strconv.Itoa(i))
		l.browsers = append(l.browsers, b)
	}
	l.during(func() {})
	return l
}

// during does a step under load: before it ends no one rests, and no one is refused anything.
func (l *keyLoad) during(step func()) {
	l.Helper()
	var done atomic.Bool
	var all sync.WaitGroup
	defer all.Wait()
	defer done.Store(true)
	for _, b := range l.browsers {
		all.Go(func() {
			for n := 0; (n < rounds || !done.Load()) && !l.Failed(); n++ {
				l.round(b)
			}
		})
	}
	step()
}

func (l *keyLoad) round(b *browser) {
	l.check(b)
	if a := b.refresh(); a.status != http.StatusOK {
		l.Errorf("a refresh: %d %s", a.status, a.body)
	}
	l.check(b) // of a new token
	key := l.backend.verify(b.access())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.signed[key] = true
	l.requests += 3
}

func (l *keyLoad) check(b *browser) {
	if a := b.do(http.MethodGet, "/", script); a.status != http.StatusOK || a.app == nil {
		l.Errorf("a check: %d %s", a.status, a.body)
	}
}

// signers are the keys that signed since the test began.
func (l *keyLoad) signers() (keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := range l.signed {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// enough fails where the load was none.
func (l *keyLoad) enough() {
	l.Helper()
	const steps = 8
	if want := steps * rounds * 3 * len(l.browsers); l.requests < want {
		l.Errorf("%d requests, want at least %d", l.requests, want)
	}
}

// backend verifies access tokens by itself, with a JWK Set that it keeps for as long as it may.
type backend struct {
	*stack

	mu    sync.Mutex
	keys  jwk.Set
	until time.Time
}

var maxAge = regexp.MustCompile(`max-age=(\d+)`)

// verify checks a signature and returns the id of its key.
func (b *backend) verify(token string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now().Add(b.moved) // no one moves the clock during a step
	if !now.Before(b.until) {
		response, err := direct.Get(b.proxy.URL("ingress") + "/.well-known/jwks.json")
		if err != nil {
			b.Error(err)
			return ""
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		age := maxAge.FindStringSubmatch(response.Header.Get("Cache-Control"))
		if err != nil || response.StatusCode != http.StatusOK || age == nil {
			b.Errorf("the JWK Set: %d, %v", response.StatusCode, err)
			return ""
		}
		seconds, _ := strconv.Atoi(age[1])
		if b.keys, err = jwk.Parse(text); err != nil {
			b.Error(err)
			return ""
		}
		b.until = now.Add(time.Duration(seconds) * time.Second)
	}
	key := signedBy(token)
	if _, err := jws.Verify([]byte(token), jws.WithKeySet(b.keys)); err != nil {
		b.Errorf("a backend refuses a token signed by %s; it knows %d keys until %s", key, b.keys.Len(), b.until)
	}
	return key
}

func signedBy(token string) string {
	header, _, _ := strings.Cut(token, ".")
	text, _ := base64.RawURLEncoding.DecodeString(header)
	var fields struct {
		ID string `json:"kid"`
	}
	_ = json.Unmarshal(text, &fields)
	return fields.ID
}

func sealedBy(token string) string {
	text, _ := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "sgr1_"))
	return base64.RawURLEncoding.EncodeToString(text[:min(8, len(text))])
}

// publish waits until each process publishes so many keys.
func (s *stack) publish(keys int) {
	s.Helper()
	for _, p := range s.processes {
		s.eventually(fmt.Sprintf("%s publishes %d keys", p.name, keys), func() bool {
			response, err := direct.Get("http://" + p.public + "/.well-known/jwks.json")
			if err != nil {
				return false
			}
			defer func() { _ = response.Body.Close() }()
			set, err := jwk.ParseReader(response.Body)
			return err == nil && set.Len() == keys
		})
	}
}

// untilActive is how long it takes until every key is active.
func (s *stack) untilActive() time.Duration {
	s.Helper()
	return time.Duration(s.count(`SELECT (extract(epoch FROM max(active_from) - sessiongate.now()) * 1000)::bigint FROM sessiongate.keys`)) * time.Millisecond
}

// wrappers are the key-encryption keys under which keys are wrapped, as `keys list` names them.
func (s *stack) wrappers() (all []string) {
	s.Helper()
	lines := strings.Split(strings.TrimSpace(s.mustRun([]string{"SESSIONGATE_KEY="}, "keys", "list")), "\n")
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		all = append(all, fields[len(fields)-1])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// run runs a command over the stack's database, with the processes' key-encryption key unless more names another, and returns all that it
// printed.
func (s *stack) run(more []string, args ...string) (string, error) {
	s.Helper()
	file, err := program()
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, file, args...)
	command.Env = append([]string{
		"GORACE=atexit_sleep_ms=0", "SESSIONGATE_KEY=" + s.key, "SESSIONGATE_DATABASE_URL=" + s.url,
		"SESSIONGATE_LISTEN_AUTHZ=127.0.0.1:0", "SESSIONGATE_LISTEN_PUBLIC=127.0.0.1:0", "SESSIONGATE_LISTEN_INTERNAL=127.0.0.1:0",
	}, more...)
	out, err := command.CombinedOutput()
	if n := s.secrets.in(out); n > 0 {
		s.Errorf("%v prints %d secrets", args, n)
	}
	return string(out), err
}

func (s *stack) mustRun(more []string, args ...string) string {
	s.Helper()
	out, err := s.run(more, args...)
	if err != nil {
		s.Errorf("%v: %v\n%s", args, err, out)
	}
	return out
}

// TestForgottenReplica: a process that no one gave the new key-encryption key goes on with what it has and says so, and none starts with the
// old one.
func TestForgottenReplica(t *testing.T) {
	s := newStack(t, stackOptions{processes: 1, noEnvoy: true})
	p := s.processes[0]
	next := newSecret()
	s.secrets.add(next)
	c := p.create("alice")
	if out := s.mustRun([]string{"SESSIONGATE_KEY=" + next, "SESSIONGATE_KEY_PREVIOUS=" + s.key}, "keys", "rewrap"); !strings.HasPrefix(out, "rewrapped 2 of 2 keys\n") {
		t.Errorf("printed %q", out)
	}
	p.awaitLine("the database holds keys that the given key-encryption keys do not open")
	s.mustRun([]string{"SESSIONGATE_KEY=" + next}, "keys", "rotate")
	s.advance(s.untilActive() + moment)
	if status := p.check(c.Tokens.Access, c.Tokens.AntiCSRF); status != http.StatusOK {
		t.Errorf("a token from before: %d", status)
	}
	d := p.create("bob")
	if status := p.check(d.Tokens.Access, d.Tokens.AntiCSRF); status != http.StatusOK {
		t.Errorf("a new token: %d", status)
	}
	p.api(http.MethodDelete, "/v1/sessions/"+d.Session.Handle, nil, nil)
	s.denied(d.Tokens.Access, d.Tokens.AntiCSRF)

	out, err := s.run(nil, "serve")
	if err == nil || !strings.Contains(out, "is wrapped under key-encryption key "+s.wrappers()[0]) {
		t.Errorf("started with the old key-encryption key: %v\n%s", err, out)
	}
}
