package envoy_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// auditEvent is a line of the audit stream.
type auditEvent struct {
	ID                                             int64
	Time, Event, Session, Rule, Reason, Actor, Key string
	UserID                                         string `json:"user_id"`
}

// did is what an event says, in short.
func (e auditEvent) did() string {
	return strings.Join(strings.Fields(strings.Join([]string{e.Event, e.UserID, e.Rule, e.Reason, e.Actor}, " ")), " ")
}

// audited is what some files of one audit stream hold together: the sequence of each session.
type audited struct {
	sessions map[string][]string
	keys     []string
	broken   int // lines that are no event
}

// readAudit checks what each file promises by itself, too: no event of a session comes before an earlier one.
func readAudit(t *testing.T, files ...string) audited {
	t.Helper()
	lines := map[int64]string{}
	events := map[int64]auditEvent{}
	got := audited{sessions: map[string][]string{}}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		newest := map[string]int64{}
		here := map[int64]bool{}
		for line := range strings.Lines(string(text)) {
			var e auditEvent
			if json.Unmarshal([]byte(line), &e) != nil {
				got.broken++
				continue
			}
			if before, again := lines[e.ID]; again && before != strings.TrimSuffix(line, "\n") {
				t.Errorf("event %d is once %q and once %q", e.ID, before, line)
			}
			if !here[e.ID] && e.ID < newest[e.Session+e.Key] {
				t.Errorf("%s: event %d comes after event %d of its session", filepath.Base(file), e.ID, newest[e.Session+e.Key])
			}
			here[e.ID] = true
			newest[e.Session+e.Key] = max(newest[e.Session+e.Key], e.ID)
			lines[e.ID], events[e.ID] = strings.TrimSuffix(line, "\n"), e
		}
	}
	for _, id := range slices.Sorted(maps.Keys(events)) {
		e := events[id]
		if e.Key != "" {
			got.keys = append(got.keys, e.Event+" "+e.Key)
			continue
		}
		got.sessions[e.Session] = append(got.sessions[e.Session], e.did())
	}
	return got
}

// crash ends a process as a power cut does.
func (p *replica) crash() {
	p.Helper()
	if err := p.run.Signal(os.Kill); err != nil {
		p.Fatal(err)
	}
	<-p.run.Exited()
	p.killed = true
}

// TestAudit: what happened to sessions is told in files, each event at least once and in order, also where the process that tells it is
// killed while others work on.
func TestAudit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "one.jsonl"), filepath.Join(dir, "two.jsonl")}
	s := newStack(t, stackOptions{each: []string{"SESSIONGATE_AUDIT_OUTPUT=" + files[0], "SESSIONGATE_AUDIT_OUTPUT=" + files[1]}})
	s.logs = append(s.logs, files...) // which are held against every secret
	one, two := s.processes[0], s.processes[1]
	want := map[string][]string{}

	alice := s.newBrowser(networkV)
	stolen := alice.signIn("alice")
	thief := alice.stolenBy(networkX)
	s.advance(grace + moment)
	alice.mustRefresh(t)
	alice.mustGet(t)
	s.awaitPromoted(stolen)
	s.advance(grace + moment)
	thief.refresh().ended(t, "token theft detected")
	want[stolen] = []string{"created alice app", "refreshed alice R4 refresh", "ended alice R8 theft refresh"}

	bob := s.newBrowser(networkV)
	out := bob.signIn("bob")
	if status, _ := one.api(http.MethodPatch, "/v1/sessions/"+out, map[string]any{"claims": map[string]any{"secret": "plan"}}, nil); status != http.StatusOK {
		t.Fatalf("PATCH: %d", status)
	}
	if a := bob.do(http.MethodPost, "/auth/signout", script); a.status != http.StatusOK {
		t.Fatalf("sign-out: %d", a.status)
	}
	want[out] = []string{"created bob app", "claims_changed bob app", "ended bob signed_out sign-out"}

	// Many sessions come and go at one process, while the other is killed, comes back and is killed again.
	const callers, each = 4, 60
	written := func() (lines int) {
		for _, file := range files {
			text, _ := os.ReadFile(file)
			lines += bytes.Count(text, []byte("\n"))
		}
		return lines
	}
	before := written()
	var mu sync.Mutex
	var all sync.WaitGroup
	for n := range callers {
		all.Go(func() {
			for i := range each {
				user := fmt.Sprintf("user-%d-%d", n, i)
				c := two.create(user)
				happens := []string{"created " + user + " app"}
				if i%2 == 0 {
					path := "/v1/sessions/" + c.Session.Handle
					if i%4 == 0 {
						path = "/v1/users/" + user + "/sessions"
					}
					two.api(http.MethodDelete, path, nil, nil)
					happens = append(happens, "ended "+user+" revoked app")
				}
				mu.Lock()
				want[c.Session.Handle] = happens
				mu.Unlock()
			}
		})
	}
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		s.eventually("events are told", func() bool { return written() > before })
		one.crash()
		one = s.launch(file, fmt.Sprintf("sessiongate-1-%d", round), stackOptions{settings: []string{"SESSIONGATE_AUDIT_OUTPUT=" + files[0]}})
		one.awaitAddresses()
		one.awaitReady()
		before = written()
		two.create("straggler") // so that there is something to tell in the next round, too
	}
	all.Wait()
	s.eventually("all is told", func() bool { return s.count(`SELECT count(*) FROM sessiongate.audit_events`) == 0 })

	got := readAudit(t, files...)
	for handle, happens := range want {
		if !slices.Equal(got.sessions[handle], happens) {
			t.Errorf("%s: told %q, happened %q", handle, got.sessions[handle], happens)
		}
	}
	for handle, told := range got.sessions {
		if want[handle] == nil && !strings.HasPrefix(told[0], "created clock") && !strings.HasPrefix(told[0], "created straggler") {
			t.Errorf("%s: told %q of a session that no one knows", handle, told)
		}
	}
	if len(got.keys) != 2 {
		t.Errorf("told of keys %q", got.keys)
	}
	if got.broken > 2 {
		t.Errorf("%d broken lines after two crashes", got.broken)
	}
	for _, file := range files {
		if text, _ := os.ReadFile(file); bytes.Contains(text, []byte("plan")) {
			t.Errorf("%s tells what was in the claims", filepath.Base(file))
		}
	}
}

// TestAuditOnStdout: standard output has events and nothing else; and when no one reads it any more, they wait in the database.
func TestAuditOnStdout(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	s := newStack(t, stackOptions{processes: 1, noEnvoy: true, stdout: writer, settings: []string{"SESSIONGATE_AUDIT_OUTPUT=stdout"}})
	_ = writer.Close()
	p := s.processes[0]
	handle := p.create("alice").Session.Handle
	p.api(http.MethodDelete, "/v1/sessions/"+handle, nil, nil)
	var told []string
	for lines := bufio.NewScanner(reader); len(told) < 4 && lines.Scan(); {
		var e auditEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Event == "" {
			t.Fatalf("standard output has %q", lines.Text())
		}
		told = append(told, e.Event)
	}
	if want := []string{"key_added", "key_added", "created", "ended"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}

	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	p.create("bob")
	p.awaitLine("audit events cannot be delivered")
	p.create("carol")
	if n := s.count(`SELECT count(*) FROM sessiongate.audit_events WHERE kind = 'created'`); n != 2 {
		t.Errorf("%d events wait, want 2", n)
	}
}
