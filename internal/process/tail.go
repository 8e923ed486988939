package process

import (
	"io"
	"strings"
	"sync"
)

// tailBytes is how much of a log is kept for the error of a failed start.
const tailBytes = 16 << 10

// Tail passes a log on to Tee, where there is one, and keeps the log's end for an error.
type Tail struct {
	Tee io.Writer

	mu   sync.Mutex
	last []byte
}

func (t *Tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	t.last = append(t.last, b...)
	if extra := len(t.last) - tailBytes; extra > 0 {
		t.last = append(t.last[:0], t.last[extra:]...)
	}
	t.mu.Unlock()
	if t.Tee != nil {
		_, _ = t.Tee.Write(b) // a watcher that went away must not stop the child by a full pipe
	}
	return len(b), nil
}

func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.last))
}
