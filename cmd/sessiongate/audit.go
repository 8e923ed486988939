package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/sessiongate/sessiongate/internal/settings"
	"github.com/sessiongate/sessiongate/sessions"
)

// auditLine is an audit event as it is written: one line of JSON. The names are
// documented in docs/audit.md, and only added to.
type auditLine struct {
	ID      int64  `json:"id"`
	Time    string `json:"time"`
	Event   string `json:"event"`
	Session string `json:"session,omitempty"`
	UserID  string `json:"user_id,omitempty"`
	Rule    string `json:"rule,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Actor   string `json:"actor,omitempty"`
	Key     string `json:"key,omitempty"`
}

// auditTime is RFC 3339 in UTC, always with six digits of a second.
const auditTime = "2006-01-02T15:04:05.000000Z"

// auditLines is the same text for the same events, whoever writes them.
func auditLines(events []sessions.AuditEvent) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	for _, e := range events {
		line := auditLine{
			ID: e.ID, Time: e.At.UTC().Format(auditTime), Event: string(e.Kind), UserID: e.UserID,
			Rule: string(e.Rule), Reason: string(e.Reason), Actor: e.Actor, Key: e.Key,
		}
		if e.Handle != (sessions.Handle{}) {
			line.Session = e.Handle.String()
		}
		if err := encoder.Encode(line); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// auditOutput is where audit.output sends the events; nil where it is empty. What
// cannot be written to is a fault now, not a gap in the audit later.
func auditOutput(c Config, at settings.Origins, stdout io.Writer) (*audit, error) {
	switch c.Audit.Output {
	case "":
		return nil, nil //nolint:nilnil // no output is no fault
	case auditStdout:
		// A reader of stdout that went away must cost lines, which come again, and not
		// the process: by default a write to a broken standard output ends it.
		signal.Ignore(syscall.SIGPIPE)
		return newAudit((&streamOutput{w: stdout}).write), nil
	}
	file := fileOutput(c.Audit.Output)
	if err := file.write(nil); err != nil {
		return nil, settings.Faults{{
			At: at["audit.output"], Key: "audit.output", Found: fmt.Sprintf("%q: %s", c.Audit.Output, settings.Reason(err)),
			Allowed: "stdout, or a file that this process may append to or create",
		}}
	}
	return newAudit(file.write), nil
}

// audit writes batches, one at a time.
type audit struct {
	write func([]byte) error
	busy  chan struct{} // full while something is written
}

func newAudit(write func([]byte) error) *audit {
	return &audit{write: write, busy: make(chan struct{}, 1)}
}

// deliver returns nil once the events are written. A write cannot be interrupted:
// one that hangs, on a pipe that nobody reads or a disk that is away, is left to
// itself when ctx ends, and what waits for it is the next one. It may still happen;
// its lines are then there twice.
func (a *audit) deliver(ctx context.Context, events []sessions.AuditEvent) error {
	lines, err := auditLines(events)
	if err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	select {
	case a.busy <- struct{}{}:
	case <-ctx.Done():
		return errors.New("the audit output still hangs in an earlier write")
	}
	done := make(chan error, 1)
	go func() {
		err := a.write(lines)
		<-a.busy
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("the audit output hangs")
	}
}

// streamOutput cannot be asked what it holds: it remembers whether its last line
// is whole.
type streamOutput struct {
	w    io.Writer
	torn bool
}

func (o *streamOutput) write(lines []byte) error {
	if o.torn {
		lines = append([]byte("\n"), lines...)
	}
	n, err := o.w.Write(lines)
	if n > 0 {
		o.torn = lines[n-1] != '\n'
	}
	return err
}

// fileOutput is a path. The file is opened again for each batch, so that it can be
// renamed away at any time.
type fileOutput string

func (o fileOutput) write(lines []byte) (err error) {
	// Opening a pipe waits for its reader, and a device is never full.
	info, err := os.Stat(string(o))
	switch {
	case err == nil && !info.Mode().IsRegular():
		return errors.New("no regular file")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	created := err != nil
	file, err := os.OpenFile(string(o), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if len(lines) > 0 {
		// Half a line, of a crash or a full disk, must not spoil the next one.
		torn, err := endsTorn(file)
		if err != nil {
			return err
		}
		if torn {
			lines = append([]byte("\n"), lines...)
		}
		if _, err := file.Write(lines); err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
	}
	if created {
		return syncDir(filepath.Dir(string(o)))
	}
	return nil
}

func endsTorn(file *os.File) (bool, error) {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return false, err
	}
	var last [1]byte
	_, err = file.ReadAt(last[:], info.Size()-1)
	return last[0] != '\n', err
}
