package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// systemd learns that the process listens although its database is away, and that it stops.
func TestSupervisorIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	address := filepath.Join(dir, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	_ = socket.SetReadDeadline(time.Now().Add(time.Minute))
	told := func() string {
		text := make([]byte, 100)
		n, err := socket.Read(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(text[:n])
	}
	key := filepath.Join(dir, "key")
	if _, err := run(t, nil, "keys", "new", key); err != nil {
		t.Fatal(err)
	}
	s := serving(t, nil, "NOTIFY_SOCKET="+address, "SESSIONGATE_DATABASE_URL=postgres:///none?host="+dir+"&user=none", "SESSIONGATE_KEY_FILE="+key,
		"SESSIONGATE_LISTEN_AUTHZ=127.0.0.1:0", "SESSIONGATE_LISTEN_PUBLIC=127.0.0.1:0", "SESSIONGATE_LISTEN_INTERNAL=127.0.0.1:0",
		"SESSIONGATE_SHUTDOWN_DRAIN_DELAY=0s", "SESSIONGATE_SHUTDOWN_LINGER=0s")
	if got := told(); got != "READY=1" {
		t.Errorf("told %q", got)
	}
	s.stop()
	if got := told(); got != "STOPPING=1" {
		t.Errorf("told %q", got)
	}
}

// A supervisor that is gone is a line, and no reason to end.
func TestSupervisorIsGone(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	supervisor("").tell(listens, slog.New(slog.NewTextHandler(&log, nil)))
	if log.Len() > 0 {
		t.Errorf("no supervisor, and yet %s", log.String())
	}
	supervisor(filepath.Join(t.TempDir(), "gone")).tell(listens, slog.New(slog.NewTextHandler(&log, nil)))
	if !strings.Contains(log.String(), "could not be told") {
		t.Errorf("log %q", log.String())
	}
}

// A supervisor that does not read its queue holds up neither start nor stop.
func TestSupervisorThatDoesNotRead(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "notify-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	address := &net.UnixAddr{Name: filepath.Join(dir, "socket"), Net: "unixgram"}
	queue, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = queue.Close() }()
	// A socket may have some messages under way, and the queue has room for those of several sockets.
	for written := 1; written > 0; {
		full, err := net.DialUnix("unixgram", nil, address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = full.Close() }() // takes nothing out of the queue
		for written = 0; err == nil; written++ {
			if err = full.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err == nil {
				_, err = full.Write([]byte("x"))
			}
		}
		if written--; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	supervisor(address.Name).tell(stops, slog.New(slog.NewTextHandler(&log, nil)))
	if !strings.Contains(log.String(), "could not be told") {
		t.Errorf("log %q", log.String())
	}
}
