package envoy_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// historyRounds is how many a history has. Between two of them the time is moved.
const historyRounds = 3

// offerBinding lets browsers bind their sessions to a device.
const offerBinding = "SESSIONGATE_BINDING_MODE=offer"

// historySettings also have the answers to proofs say which refusal they are.
var historySettings = []string{offerBinding, "SESSIONGATE_RESPONSES_DENIAL_HEADER=true"}

// TestHistories lets many clients refresh, use, change and end many sessions at once, at two processes over one Postgres, and asks whether
// docs/protocol.md allows what they were told.
func TestHistories(t *testing.T) {
	playHistories(t, newStack(t, stackOptions{noEnvoy: true, settings: historySettings}), func(int) {})
}

// playHistories plays in rounds, with something that happens in each. What each client does follows from a seed; how they interleave does
// not, so a run that fails is repeated with its seed, more than once if need be.
func playHistories(t *testing.T, s *stack, happens func(round int)) {
	t.Helper()
	const name = "SESSIONGATE_TEST_SEED"
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(name); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s is a number: %v", name, err)
		}
	}
	t.Logf("repeat with %s=%d go test -count=1 -run '^%s$' ./envoy", name, seed, t.Name())

	r := sessionstest.NewRecorder()
	random := rand.New(rand.NewPCG(seed, 0))
	const sessionsEach = 4
	var played []*play
	for i := range sessionsEach {
		played = append(played, newPlay(s, r, random, true), newPlay(s, r, random, i == 0))
	}
	moved := func(by time.Duration) {
		s.advance(by)
		r.Advanced(by)
	}
	moved(grace + moment) // the first tokens' grace has passed
	for round := range historyRounds {
		stop := make(chan struct{})
		var watching, playing sync.WaitGroup
		for i := range s.processes {
			watching.Go(func() { watch(s, r, i, stop) })
		}
		for _, p := range played {
			p.round(&playing, random, round == historyRounds-1)
		}
		happens(round)
		playing.Wait()
		close(stop)
		watching.Wait()
		if round < historyRounds-1 {
			moved([]time.Duration{grace + moment, repeat + moment}[random.IntN(2)])
		}
	}
	answers := map[sessionstest.Told]int{}
	for _, p := range played {
		p.ended(answers)
	}
	t.Logf("%v", answers)
	switch err := r.Check(); {
	case errors.Is(err, sessionstest.ErrUndecided):
		t.Log(err) // on a busy machine more happens at once; that is no fault of the product's
	case err != nil:
		t.Fatal(err)
	}
}

// watch reads, again and again, how old a process's feed is: a poll that began so long ago has ended.
func watch(s *stack, r *sessionstest.Recorder, replica int, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
		call := r.Now()
		age, err := s.processes[replica].feedAge()
		if err != nil {
			s.Error(err)
			return
		}
		began := call - age
		r.Add(sessionstest.Op{Replica: replica, Did: sessionstest.Polled, Call: began, Return: r.Now()})
	}
}

// play is one session, with those who hold its tokens.
type play struct {
	*stack

	r        *sessionstest.Recorder
	created  sessionstest.Op
	antiCSRF string
	holders  []*holder
	thief    *holder
	slow     atomic.Bool // an attempt lasted D: no promise to the client
	changes  atomic.Int64
	device   atomic.Pointer[string] // the identifier of the device session

	mu      sync.Mutex
	access  []string // all that were issued
	answers map[sessionstest.Told]int
}

// holder is a browser, which its tabs share, or a thief.
type holder struct {
	mu     sync.Mutex
	jar    held
	tabs   []string // the network of each
	device *sessionstest.Device
	key    string         // its name
	offer  sessions.Token // the challenge of the sign-in; a thief has none
}

type held struct{ refresh, hash, access string }

func newPlay(s *stack, r *sessionstest.Recorder, random *rand.Rand, honest bool) *play {
	p := &play{stack: s, r: r, answers: map[sessionstest.Told]int{}}
	browser := &holder{tabs: []string{networkV, networkV, networkW}[:1+random.IntN(3)]}
	p.holders = []*holder{browser}
	p.created = sessionstest.Op{Did: sessionstest.Created, Told: sessionstest.Done, Call: r.Now(), Honest: honest}
	var c created
	at := s.processes[random.IntN(len(s.processes))]
	if status, _ := at.api(http.MethodPost, "/v1/sessions", map[string]any{"user_id": "alice", "claims": map[string]any{"n": "0"}}, &c); status != http.StatusCreated {
		s.Fatalf("creating a session: %d", status)
	}
	s.secrets.add(c.Tokens.Access, c.Tokens.Refresh, c.Tokens.AntiCSRF)
	p.created.Return, p.created.Session = r.Now(), c.Session.Handle
	var err error
	if p.created.Access, err = sessionstest.ReadAccess(c.Tokens.Access); err != nil {
		s.Fatal(err)
	}
	p.antiCSRF, p.access = c.Tokens.AntiCSRF, []string{c.Tokens.Access}
	browser.jar = held{c.Tokens.Refresh, p.created.Access.Own, c.Tokens.Access}
	if random.IntN(2) == 0 {
		browser.device, browser.key, browser.offer = sessionstest.NewDevice(s), "own", offerOf(s, c)
	}
	if !honest {
		p.thief = &holder{jar: browser.jar, tabs: []string{networkX}, device: sessionstest.NewDevice(s), key: "thief"}
		p.holders = append(p.holders, p.thief)
	}
	return p
}

// round starts what everyone does until the clock is moved.
func (p *play) round(all *sync.WaitGroup, random *rand.Rand, last bool) {
	const steps = 3
	for _, h := range p.holders {
		for _, network := range h.tabs {
			own := rand.New(rand.NewPCG(random.Uint64(), 1))
			all.Go(func() {
				for range steps {
					p.step(h, network, own)
				}
			})
		}
	}
	// Two backends: one ends the session.
	for i := range 2 {
		own := rand.New(rand.NewPCG(random.Uint64(), 2))
		ends := i == 0 && last && own.IntN(4) > 0
		all.Go(func() {
			for range 2 {
				if own.IntN(2) == 0 {
					p.change(own)
				} else {
					p.check(p.any(own), own)
				}
			}
			if ends {
				p.end(own)
			}
			p.check(p.any(own), own)
		})
	}
}

func (p *play) step(h *holder, network string, random *rand.Rand) {
	switch random.IntN(6) {
	case 0, 1, 2:
		if h.device != nil && random.IntN(2) == 0 {
			p.prove(h, network, random)
			return
		}
		p.refresh(h, network, random)
	case 3, 4:
		h.mu.Lock()
		access := h.jar.access
		h.mu.Unlock()
		p.check(access, random)
	case 5:
		if h == p.thief && random.IntN(3) == 0 { // the thief steals once more
			p.holders[0].mu.Lock()
			stolen := p.holders[0].jar
			p.holders[0].mu.Unlock()
			h.mu.Lock()
			h.jar = stolen
			h.mu.Unlock()
			return
		}
		p.check(p.any(random), random)
	}
}

// any is one of the access tokens that anybody ever got.
func (p *play) any(random *rand.Rand) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.access[random.IntN(len(p.access))]
}

func (p *play) do(random *rand.Rand, op sessionstest.Op, act func(at *replica, op *sessionstest.Op)) sessionstest.Op {
	op.Session, op.Replica = p.created.Session, random.IntN(len(p.processes))
	op = p.r.Do(op, func(op *sessionstest.Op) {
		op.Told = sessionstest.Unknown
		act(p.processes[op.Replica], op)
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[op.Told]++
	return op
}

// over adds what each client was told, and tells of the sign-in, now that it is known who kept to D.
func (p *play) ended(answers map[sessionstest.Told]int) {
	p.created.Honest = p.created.Honest && !p.slow.Load()
	p.r.Add(p.created)
	for told, n := range p.answers {
		answers[told] += n
	}
}

func (p *play) refresh(h *holder, network string, random *rand.Rand) {
	began := time.Now()
	h.mu.Lock()
	mine := h.jar
	h.mu.Unlock()
	if mine.refresh == "" {
		return // signed out
	}
	var got held
	op := p.do(random, sessionstest.Op{Did: sessionstest.Refreshed, Token: mine.hash, Client: network}, func(at *replica, op *sessionstest.Op) {
		a, err := at.post(refreshPath, "sRefreshToken="+mine.refresh, network)
		if err != nil {
			return
		}
		switch {
		case a.status == http.StatusOK:
			got.access, got.refresh = a.value("sAccessToken"), a.value("sRefreshToken")
			if op.Access, err = sessionstest.ReadAccess(got.access); err != nil {
				p.Errorf("a refresh's access token: %v", err)
			}
			if op.Told = sessionstest.Kept; got.refresh != "" {
				op.Told = sessionstest.Child
			}
		case a.status == http.StatusConflict:
			op.Told = sessionstest.Superseded
		case a.status == http.StatusTemporaryRedirect:
			op.Told = sessionstest.ProveFirst
		case strings.Contains(a.body, "theft"):
			op.Told = sessionstest.Theft
		case a.status == 440:
			op.Told = sessionstest.ToldEnded
		case a.status != http.StatusServiceUnavailable:
			p.Errorf("refresh: %d", a.status)
		}
	})
	if got.access != "" {
		p.mu.Lock()
		p.access = append(p.access, got.access)
		p.mu.Unlock()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch op.Told {
	case sessionstest.Child:
		h.jar = held{got.refresh, op.Access.Own, got.access}
	case sessionstest.Kept:
		h.jar.access = got.access
	case sessionstest.ToldEnded, sessionstest.Theft:
		h.jar.refresh = ""
	default:
	}
	if time.Since(began) >= attempt {
		p.slow.Store(true)
	}
}

// prove registers the key of a device once, where the holder was offered to, and else proves it.
func (p *play) prove(h *holder, network string, random *rand.Rand) {
	began := time.Now()
	h.mu.Lock()
	mine, offer := h.jar, h.offer
	h.offer = ""
	h.mu.Unlock()
	if mine.refresh == "" {
		return
	}
	if offer != "" {
		op := sessionstest.Op{Did: sessionstest.Registered, Token: mine.hash, Client: network, Key: h.key}
		p.do(random, op, func(at *replica, op *sessionstest.Op) {
			switch a, err := at.prove(bindPath, mine.refresh, network, "", h.device.Registration(offer)); {
			case err != nil, a.status == http.StatusServiceUnavailable:
			case a.status == http.StatusOK:
				id := identifierOf(a)
				p.device.Store(&id)
				op.Told = sessionstest.Done
			case a.status == http.StatusBadRequest:
				op.Told = sessionstest.NoDevice
			default:
				p.Errorf("registering a key: %d %s", a.status, a.body)
			}
		})
		return
	}
	id := p.device.Load()
	if id == nil {
		return
	}
	asked := p.r.Now()
	a, err := p.processes[random.IntN(len(p.processes))].prove(boundPath, mine.refresh, network, *id, "")
	if err != nil || a.status != http.StatusForbidden {
		return // an outage
	}
	proof := h.device.Proof(challengeOf(a))
	op := sessionstest.Op{Did: sessionstest.Proved, Token: mine.hash, Client: network, Key: h.key, Asked: asked}
	var got string
	p.do(random, op, func(at *replica, op *sessionstest.Op) {
		a, err := at.prove(boundPath, mine.refresh, network, *id, proof)
		switch {
		case err != nil, a.status == http.StatusServiceUnavailable:
		case a.status != http.StatusOK:
			p.Errorf("a proof: %d %s", a.status, a.body)
		case !strings.Contains(a.body, `"continue":false`):
			got = a.value("sAccessToken")
			if op.Access, err = sessionstest.ReadAccess(got); err != nil {
				p.Errorf("a proof's access token: %v", err)
			}
			op.Told = sessionstest.Proven
		case len(a.header.Values("Set-Cookie")) > 0:
			op.Told = sessionstest.ToldEnded
		case a.header.Get("X-Sessiongate-Denial") == "superseded":
			op.Told = sessionstest.Superseded
		default:
			op.Told = sessionstest.NoDevice
		}
	})
	if got != "" {
		p.mu.Lock()
		p.access = append(p.access, got)
		p.mu.Unlock()
		h.mu.Lock()
		h.jar.access = got
		h.mu.Unlock()
	}
	if time.Since(began) >= attempt {
		p.slow.Store(true)
	}
}

const bindPath = "/auth/session/bind"

// prove asks as a browser does by itself, with a proof where there is one.
func (p *replica) prove(path, refresh, peer, session, proof string) (answer, error) {
	header := http.Header{}
	if session != "" {
		header.Set("Sec-Secure-Session-Id", session)
	}
	if proof != "" {
		header.Set("Secure-Session-Response", proof)
	}
	return p.postWith(path, "sRefreshToken="+refresh, peer, header)
}

// offerOf is the challenge that came with a sign-in.
func offerOf(t testing.TB, c created) sessions.Token {
	t.Helper()
	_, rest, ok := strings.Cut(c.Headers["secure-session-registration"], `challenge="`)
	challenge, _, quoted := strings.Cut(rest, `"`)
	if !ok || !quoted {
		t.Fatalf("a sign-in offers no registration: %v", c.Headers)
	}
	return sessions.Token(challenge)
}

// challengeOf is the challenge that an answer asks to sign.
func challengeOf(a answer) sessions.Token {
	challenge, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Secure-Session-Challenge"), `"`), `"`)
	return sessions.Token(challenge)
}

// identifierOf is the identifier of the device session in the answer to a registration.
func identifierOf(a answer) string {
	_, rest, _ := strings.Cut(a.body, `"session_identifier":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

func (p *play) check(access string, random *rand.Rand) {
	pass, err := sessionstest.ReadAccess(access)
	if err != nil {
		p.Error(err)
		return
	}
	p.do(random, sessionstest.Op{Did: sessionstest.Checked, Access: pass}, func(at *replica, op *sessionstest.Op) {
		response, err := at.gate.Check(p.Context(), checkRequest(access, p.antiCSRF), grpc.WaitForReady(true))
		switch status := response.GetDeniedResponse().GetStatus().GetCode(); {
		case err != nil:
			p.Errorf("check: %v", err)
		case response.GetStatus().GetCode() == int32(codes.OK) && response.GetOkResponse() != nil:
			op.Told = sessionstest.Allowed
		case status == 440:
			op.Told = sessionstest.TryRefresh
		case status == http.StatusUnauthorized:
			op.Told = sessionstest.Unauthorised
		default:
			p.Errorf("check: %d", status)
		}
	})
}

func (p *play) change(random *rand.Rand) {
	claims := strconv.FormatInt(p.changes.Add(1), 10)
	p.do(random, sessionstest.Op{Did: sessionstest.Changed, Claims: claims}, func(at *replica, op *sessionstest.Op) {
		status, _ := at.api(http.MethodPatch, "/v1/sessions/"+op.Session, map[string]any{"claims": map[string]any{"n": claims}}, nil)
		switch status {
		case http.StatusOK:
			op.Told = sessionstest.Done
		case http.StatusNotFound:
			op.Told = sessionstest.NotFound
		}
	})
}

// end ends the session: a backend does, or its client signs out.
func (p *play) end(random *rand.Rand) {
	browser := p.holders[0]
	browser.mu.Lock()
	token := browser.jar.refresh
	browser.mu.Unlock()
	if token != "" && random.IntN(2) == 0 {
		p.do(random, sessionstest.Op{Did: sessionstest.SignedOut}, func(at *replica, op *sessionstest.Op) {
			switch a, err := at.post("/auth/signout", "sRefreshToken="+token, networkV); {
			case err != nil:
			case a.status == http.StatusOK:
				op.Told = sessionstest.Done
			case a.status == http.StatusTemporaryRedirect:
				op.Told = sessionstest.ProveFirst
			}
		})
		return
	}
	p.do(random, sessionstest.Op{Did: sessionstest.Ended}, func(at *replica, op *sessionstest.Op) {
		var answer struct {
			Ended bool `json:"ended"`
		}
		if status, _ := at.api(http.MethodDelete, "/v1/sessions/"+op.Session, nil, &answer); status == http.StatusOK {
			if op.Told = sessionstest.NotFound; answer.Ended {
				op.Told = sessionstest.Done
			}
		}
	})
}

// post asks this process as Envoy passes a browser's POST on.
func (p *replica) post(path, cookie, peer string) (answer, error) {
	return p.postWith(path, cookie, peer, http.Header{})
}

func (p *replica) postWith(path, cookie, peer string, header http.Header) (answer, error) {
	request, err := http.NewRequestWithContext(p.Context(), http.MethodPost, "http://"+p.public+path, nil)
	if err != nil {
		return answer{}, err
	}
	request.Host, request.Header = host, header
	request.Header.Set("Cookie", cookie)
	request.Header.Set("X-Sessiongate-Peer", peer)
	request.Header.Set("User-Agent", "browser")
	response, err := direct.Do(request)
	if err != nil {
		return answer{}, fmt.Errorf("posting: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	p.secrets.addFrom(response.Header)
	return answer{status: response.StatusCode, header: response.Header, body: string(body)}, err
}

// value is that of a cookie that an answer issues, or "".
func (a answer) value(name string) string {
	for _, line := range a.header.Values("Set-Cookie") {
		if c, err := http.ParseSetCookie(line); err == nil && c.Name == name && c.Value != "" {
			return c.Value
		}
	}
	return ""
}
