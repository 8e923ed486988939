package memory_test

import (
	"errors"
	"testing"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/memory"
)

func TestFaults(t *testing.T) {
	m := memory.New()
	n := sessions.NewRecord{Handle: sessions.NewHandle()}
	broken := errors.New("broken")
	fail := func(method string) error {
		if method == "Create" || method == "End" {
			return broken
		}
		return nil
	}
	m.Fail(fail)
	if _, err := m.Create(t.Context(), n); !errors.Is(err, broken) {
		t.Errorf("Create: %v", err)
	}
	if _, _, err := m.Get(t.Context(), n.Handle); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("a call that failed before its effect had one: %v", err)
	}
	m.Fail(nil)
	if _, err := m.Create(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	m.FailAfter(fail)
	if _, err := m.End(t.Context(), n.Handle, sessions.Ending{}); !errors.Is(err, broken) {
		t.Errorf("End: %v", err)
	}
	if _, _, err := m.Get(t.Context(), n.Handle); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("a call that failed after its effect had none: %v", err)
	}
}

func TestMemoryRestore(t *testing.T) {
	m := memory.New()
	n := sessions.NewRecord{Handle: sessions.NewHandle()}
	if _, err := m.Create(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	backup := m.Snapshot()
	ended := func() sessions.Cursor {
		t.Helper()
		if done, err := m.End(t.Context(), n.Handle, sessions.Ending{}); err != nil || !done {
			t.Fatalf("End: %v, %v", done, err)
		}
		page, err := m.Poll(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		return page.Next
	}
	before := ended()
	for range 2 { // a backup is kept as it was
		m.Restore(backup)
		page, err := m.Poll(t.Context(), before)
		if err != nil || !page.Resync {
			t.Errorf("full resync %v after a restore (%v)", page.Resync, err)
		}
		ended()
	}
}
