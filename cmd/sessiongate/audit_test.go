package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/internal/settings"
	"github.com/sessiongate/sessiongate/sessions"
)

// The examples of docs/audit.md are what the code writes.
func TestAuditLinesAreAsDocumented(t *testing.T) {
	t.Parallel()
	h, err := sessions.ParseHandle("lBHaXUMV5aSPyFcVCF2zFg")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 24, 9, 30, 0, 120_000_000, time.FixedZone("", 3600))
	session := func(id int64, kind sessions.AuditKind, rule sessions.Rule, reason sessions.Reason, actor string) sessions.AuditEvent {
		at = at.Add(time.Minute)
		return sessions.AuditEvent{ID: id, At: at, Kind: kind, Handle: h, UserID: "ada", Rule: rule, Reason: reason, Actor: actor}
	}
	first := at
	lines, err := auditLines([]sessions.AuditEvent{
		{ID: 1, At: first, Kind: sessions.AuditKeyAdded, Key: "signing/1/" + (sessions.KeyID{1, 2, 3, 4, 5, 6, 7, 0xff}).String()},
		session(17, sessions.AuditCreated, "", "", "shop"),
		session(23, sessions.AuditRefreshed, sessions.R4, "", "refresh"),
		session(24, sessions.AuditClaimsChanged, "", "", "shop"),
		session(31, sessions.AuditEnded, sessions.R8, sessions.ReasonTheft, "refresh"),
	})
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(page, append([]byte("```json\n"), append(lines, "```"...)...)) {
		t.Errorf("docs/audit.md does not have\n%s", lines)
	}
}

// Whatever a name holds, an event is one line, and a reader gets the name back.
func TestAuditLineIsOneLine(t *testing.T) {
	t.Parallel()
	for _, name := range []string{`<a&b>"\`, "a\nb\r\u2028c", "\x00\x7f", "\xff"} {
		lines, err := auditLines([]sessions.AuditEvent{{ID: 1, UserID: name, Actor: name}})
		if err != nil || bytes.Count(lines, []byte("\n")) != 1 || bytes.ContainsAny(lines, "\r\u2028\x00") {
			t.Errorf("%q: %q, %v", name, lines, err)
		}
		var got auditLine
		if err := json.Unmarshal(lines, &got); err != nil || got.UserID != strings.ToValidUTF8(name, "�") {
			t.Errorf("%q came back as %q, %v", name, got.UserID, err)
		}
	}
}

func event(id int64) []sessions.AuditEvent { return []sessions.AuditEvent{{ID: id}} }

// ids reads the events of an output; what is no event must be a piece of one.
func ids(t *testing.T, text string) (ids []int64, broken int) {
	t.Helper()
	for line := range strings.Lines(text) {
		var got auditLine
		if !strings.HasSuffix(line, "\n") || json.Unmarshal([]byte(line), &got) != nil {
			broken++
			continue
		}
		ids = append(ids, got.ID)
	}
	return ids, broken
}

func TestAuditFile(t *testing.T) {
	t.Parallel()
	var c Config
	c.Audit.Output = filepath.Join(t.TempDir(), "audit.jsonl")
	out, err := auditOutput(c, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := func() string {
		t.Helper()
		text, err := os.ReadFile(c.Audit.Output)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(c.Audit.Output); err != nil || info.Mode() != 0o600 || info.Size() != 0 {
		t.Errorf("made %v, %v", info, err)
	}
	must(out.deliver(t.Context(), event(1)))
	must(out.deliver(t.Context(), event(2)))

	// It is renamed away, as logrotate does.
	must(os.Rename(c.Audit.Output, c.Audit.Output+".1"))
	must(out.deliver(t.Context(), event(3)))
	if got, broken := ids(t, file()); fmt.Sprint(got) != "[3]" || broken > 0 {
		t.Errorf("after a rotation: %v, %d broken", got, broken)
	}
	if info, err := os.Stat(c.Audit.Output); err != nil || info.Mode() != 0o600 {
		t.Errorf("made %v, %v", info, err)
	}

	// A write stopped in the middle of a line.
	must(os.Truncate(c.Audit.Output, int64(len(file())-5)))
	must(out.deliver(t.Context(), event(3)))
	must(out.deliver(t.Context(), event(4)))
	if got, broken := ids(t, file()); fmt.Sprint(got) != "[3 4]" || broken != 1 {
		t.Errorf("after half a line: %v, %d broken:\n%s", got, broken, file())
	}

	// Another process puts something else there.
	must(os.Remove(c.Audit.Output))
	must(os.Mkdir(c.Audit.Output, 0o700))
	if err := out.deliver(t.Context(), event(5)); err == nil {
		t.Error("written to a folder")
	}
	must(os.Remove(c.Audit.Output))
	must(out.deliver(t.Context(), event(5)))
	if got, _ := ids(t, file()); fmt.Sprint(got) != "[5]" {
		t.Errorf("afterwards: %v", got)
	}
}

func TestAuditOutputFaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe, plain := filepath.Join(dir, "pipe"), filepath.Join(dir, "plain")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	at := settings.Origin{File: "test.yaml", Line: 3}
	for path, found := range map[string]string{
		dir:                           "no regular file",
		pipe:                          "no regular file",
		"/dev/null":                   "no regular file",
		filepath.Join(dir, "no/file"): "no such file or directory",
		filepath.Join(plain, "file"):  "not a directory",
	} {
		var c Config
		c.Audit.Output = path
		out, err := auditOutput(c, settings.Origins{"audit.output": at}, nil)
		all := settings.Faults(nil)
		if out != nil || !errors.As(err, &all) || len(all) != 1 || all[0].At != at || all[0].Key != "audit.output" ||
			!strings.Contains(all[0].Found, found) || !strings.Contains(all[0].Found, path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A fault of the output stops serve before it has done anything.
func TestServeRefusesAnAuditOutput(t *testing.T) {
	t.Parallel()
	_, err := run(t, []string{
		"SESSIONGATE_KEY=" + newSecret(), "SESSIONGATE_DATABASE_URL=postgres://127.0.0.1:1/none", "SESSIONGATE_API_KEYS=app:" + newSecret(),
		"SESSIONGATE_AUDIT_OUTPUT=" + t.TempDir(),
	}, "serve")
	if all := faultsOf(t, err); len(all) != 1 || all[0].At.Env != "SESSIONGATE_AUDIT_OUTPUT" {
		t.Errorf("%v", err)
	}
}

// halves takes half of what comes, and then no more, while it is full.
type halves struct {
	bytes.Buffer

	full bool
}

func (h *halves) Write(p []byte) (int, error) {
	if !h.full {
		return h.Buffer.Write(p)
	}
	n, _ := h.Buffer.Write(p[:len(p)/2])
	return n, syscall.ENOSPC
}

func TestAuditStream(t *testing.T) {
	t.Parallel()
	var c Config
	c.Audit.Output = auditStdout
	w := &halves{}
	out, err := auditOutput(c, nil, w)
	if err != nil {
		t.Fatal(err)
	}
	if err := out.deliver(t.Context(), event(1)); err != nil {
		t.Fatal(err)
	}
	w.full = true
	for range 2 {
		if err := out.deliver(t.Context(), event(2)); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	w.full = false
	for id := range 2 {
		if err := out.deliver(t.Context(), event(int64(2+id))); err != nil {
			t.Fatal(err)
		}
	}
	if got, broken := ids(t, w.String()); fmt.Sprint(got) != "[1 2 3]" || broken != 2 {
		t.Errorf("%v, %d broken:\n%s", got, broken, w.String())
	}
}

// A write that hangs is given up, and the next one waits for it: two at once would
// mix their lines.
func TestAuditOutputThatHangs(t *testing.T) {
	t.Parallel()
	inside, release := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	var text strings.Builder
	hang := true
	out := newAudit(func(lines []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if hang {
			hang = false
			close(inside)
			<-release
		}
		text.Write(lines)
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-inside; cancel() }()
	for range 3 {
		if err := out.deliver(ctx, event(1)); err == nil {
			t.Error("a write that hangs counts as done")
		}
	}
	close(release)
	if err := out.deliver(t.Context(), event(2)); err != nil {
		t.Fatal(err)
	}
	if got, broken := ids(t, text.String()); fmt.Sprint(got) != "[1 2]" || broken > 0 {
		t.Errorf("%v, %d broken", got, broken)
	}
}
