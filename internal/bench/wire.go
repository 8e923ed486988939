package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// A gRPC client of grpc-go costs as much as the server under test, and would be what is measured. This
// one writes the frames that Envoy writes, reads what it must, and costs some 3 µs a call: one
// connection, one goroutine, and as in Envoy's worker one write for all that a read has brought.

// load is what is sent: the bytes of CheckRequests, in turn. They all have the same outcome.
type load struct {
	messages [][]byte
	// check says what is wrong with an answer. It sees the first of each connection, one in
	// decodeEach, and each whose first bytes, which have the status, are not those of the first.
	check func(*authv3.CheckResponse) error
}

const (
	decodeEach = 128
	statusSize = 4 // the field status comes first: number, length, and the code in it

	frameHeader = 9
	inSize      = 256 << 10 // some frames of the largest size, 16 KiB
	// plenty is the window that the server gets for its answers: it is never in the way.
	plenty = 1<<31 - 1
	// refill is how much of it is used up before it is filled again.
	refill = 1 << 30
)

// wire is one HTTP/2 connection to a Check server.
type wire struct {
	conn    net.Conn
	raw     syscall.RawConn
	in      []byte // what was read; in[at:] is to be looked at
	at      int
	out     []byte // frames that were not written yet
	headers *hpack.Encoder
	block   bytes.Buffer
	answers *hpack.Decoder
	status  string // grpc-status of the frame at hand
	message string // grpc-message

	next     uint32           // stream
	calls    map[uint32]*call // under way
	room     int              // bytes that the server still takes on the connection
	received int              // since the window was filled
	turn     int              // of load.messages
	first    []byte           // bytes of the first answer, with the status
	answered int
}

// call is one Check under way.
type call struct {
	began time.Time
	got   []byte
}

// dial connects to HOST:PORT or unix:PATH.
func dial(ctx context.Context, address string) (*wire, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connecting to the check: %w", err)
	}
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.Join(errors.New("connecting to the check: not a socket"), conn.Close())
	}
	w := &wire{conn: conn, in: make([]byte, 0, inSize), next: 1, calls: map[uint32]*call{}, room: 65535}
	if w.raw, err = sys.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("connecting to the check: %w", err), conn.Close())
	}
	w.headers = hpack.NewEncoder(&w.block)
	w.answers = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		switch f.Name {
		case "grpc-status":
			w.status = f.Value
		case "grpc-message":
			w.message = f.Value
		}
	})
	w.out = append(w.out, http2.ClientPreface...)
	w.frame(http2.FrameSettings, 0, 0, []byte{0, byte(http2.SettingInitialWindowSize), 0x7f, 0xff, 0xff, 0xff})
	w.grow(plenty - 65535)
	return w, w.flush()
}

func (w *wire) close() { _ = w.conn.Close() }

// frame adds a frame to what is to be written.
func (w *wire) frame(kind http2.FrameType, flags http2.Flags, stream uint32, payload ...[]byte) {
	size := 0
	for _, p := range payload {
		size += len(p)
	}
	w.out = append(w.out, byte(size>>16), byte(size>>8), byte(size), byte(kind), byte(flags))
	w.out = binary.BigEndian.AppendUint32(w.out, stream)
	for _, p := range payload {
		w.out = append(w.out, p...)
	}
}

func (w *wire) grow(bytes uint32) {
	var increment [4]byte
	binary.BigEndian.PutUint32(increment[:], bytes)
	w.frame(http2.FrameWindowUpdate, 0, 0, increment[:])
}

func (w *wire) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	_, err := w.conn.Write(w.out)
	w.out = w.out[:0]
	if err != nil {
		return fmt.Errorf("writing to the check: %w", err)
	}
	return nil
}

// send begins a call where the server takes it.
func (w *wire) send(l *load, began time.Time) bool {
	message := l.messages[w.turn%len(l.messages)]
	size := 5 + len(message)
	if size > w.room {
		return false
	}
	w.room -= size
	w.turn++
	w.block.Reset()
	for _, f := range envoyHeaders {
		_ = w.headers.WriteField(f) // a bytes.Buffer takes all
	}
	w.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, w.next, w.block.Bytes())
	var prefix [5]byte                                           // not compressed; length
	binary.BigEndian.PutUint32(prefix[1:], uint32(len(message))) //nolint:gosec // some 2 KB
	w.frame(http2.FrameData, http2.FlagDataEndStream, w.next, prefix[:], message)
	w.calls[w.next] = &call{began: began}
	w.next += 2
	return true
}

// envoyHeaders are those of Envoy's calls. The timeout is longer than the shipped second: a busy machine
// must not end a turn.
var envoyHeaders = []hpack.HeaderField{
	{Name: ":method", Value: "POST"},
	{Name: ":path", Value: authv3.Authorization_Check_FullMethodName},
	{Name: ":authority", Value: "sessiongate_authz"},
	{Name: ":scheme", Value: "http"},
	{Name: "te", Value: "trailers"},
	{Name: "grpc-timeout", Value: "9999m"},
	{Name: "content-type", Value: "application/grpc"},
}

// whole is the frame at hand, once all of it was read.
func (w *wire) whole() []byte {
	rest := w.in[w.at:]
	if len(rest) < frameHeader {
		return nil
	}
	size := frameHeader + (int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2]))
	if len(rest) < size {
		return nil
	}
	w.at += size
	return rest[:size]
}

// fill reads what has come. Where nothing has, it waits for more, or returns at once.
func (w *wire) fill(wait bool) error {
	if w.at > 0 {
		w.in = w.in[:copy(w.in, w.in[w.at:])]
		w.at = 0
	}
	free := w.in[len(w.in):cap(w.in)]
	if len(free) == 0 {
		return fmt.Errorf("reading from the check: a frame of more than %d bytes", cap(w.in))
	}
	n := 0
	var err error
	if wait {
		n, err = w.conn.Read(free)
	} else if failed := w.raw.Read(func(fd uintptr) bool {
		n, err = syscall.Read(int(fd), free)
		return true
	}); failed != nil {
		err = failed
	} else if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
		n, err = 0, nil
	} else if n == 0 && err == nil {
		err = io.EOF
	}
	if err != nil {
		return fmt.Errorf("reading from the check: %w", err)
	}
	w.in = w.in[:len(w.in)+n]
	return nil
}

// take handles one frame. done is the call that it ended, if any.
func (w *wire) take(frame []byte, l *load) (done *call, err error) {
	kind, flags, stream := http2.FrameType(frame[3]), http2.Flags(frame[4]), binary.BigEndian.Uint32(frame[5:])
	payload := frame[frameHeader:]
	switch kind { //nolint:exhaustive // the rest, a server does not send, or it needs no answer
	case http2.FrameData:
		c := w.calls[stream]
		if c == nil {
			return nil, fmt.Errorf("reading from the check: data for stream %d, which is not open", stream)
		}
		c.got = append(c.got, payload...)
		if w.received += len(payload); w.received > refill {
			w.grow(uint32(w.received)) //nolint:gosec // less than 2^31
			w.received = 0
		}
	case http2.FrameHeaders:
		w.status, w.message = "", ""
		if _, err := w.answers.Write(payload); err != nil {
			return nil, fmt.Errorf("reading the check's headers: %w", err)
		}
		if flags.Has(http2.FlagHeadersEndStream) {
			c := w.calls[stream]
			delete(w.calls, stream)
			if w.status != "0" {
				return nil, fmt.Errorf("the check answered with gRPC status %s: %s", w.status, w.message)
			}
			return c, w.verify(l, c)
		}
	case http2.FrameWindowUpdate:
		if stream == 0 {
			w.room += int(binary.BigEndian.Uint32(payload))
		}
	case http2.FramePing:
		if !flags.Has(http2.FlagPingAck) {
			w.frame(http2.FramePing, http2.FlagPingAck, 0, payload)
		}
	case http2.FrameSettings:
		if !flags.Has(http2.FlagSettingsAck) {
			w.frame(http2.FrameSettings, http2.FlagSettingsAck, 0)
		}
	case http2.FrameGoAway, http2.FrameRSTStream:
		return nil, fmt.Errorf("the check ended a connection or a call: %s", kind)
	}
	return nil, nil //nolint:nilnil // no call has ended
}

// verify holds an answer against what is expected.
func (w *wire) verify(l *load, c *call) error {
	if c == nil || len(c.got) < 5+2 {
		return errors.New("the check answered without a message")
	}
	message := c.got[5:]
	if w.first == nil || w.answered%decodeEach == 0 || !bytes.HasPrefix(message, w.first) {
		var answer authv3.CheckResponse
		if err := proto.Unmarshal(message, &answer); err != nil {
			return fmt.Errorf("reading an answer of the check: %w", err)
		}
		if err := l.check(&answer); err != nil {
			return err
		}
		if w.first == nil {
			w.first = bytes.Clone(message[:min(len(message), statusSize)])
		}
	}
	w.answered++
	return nil
}

// closed is one turn of a closed loop: as soon as a call is answered, the next begins. It returns
// how many were answered until the end of the turn.
func (w *wire) closed(l *load, calls int, end time.Time) (answered int, err error) {
	w.first = nil
	if err := w.conn.SetDeadline(end.Add(patience)); err != nil {
		return 0, fmt.Errorf("bounding a turn: %w", err)
	}
	waiting := calls // that are to begin
	for running := true; running || len(w.calls) > 0; {
		for running && waiting > 0 && w.send(l, time.Time{}) {
			waiting--
		}
		if err := w.flush(); err != nil {
			return 0, err
		}
		if err := w.fill(true); err != nil {
			return 0, err
		}
		for frame := w.whole(); frame != nil; frame = w.whole() {
			done, err := w.take(frame, l)
			if err != nil {
				return 0, err
			}
			if done != nil {
				waiting++
				if running {
					answered++
				}
			}
		}
		running = running && time.Now().Before(end)
	}
	return answered, nil
}

// paced is one turn of an open loop: calls begin at their times, whatever became of those before. The
// latency of a call counts from the time when it should have begun. It does not sleep, for no sleep
// is as short as a call: the generator has a core of its own.
func (w *wire) paced(l *load, perSecond float64, turn time.Duration) (latency []time.Duration, err error) {
	w.first = nil
	pause := time.Duration(float64(time.Second) / perSecond)
	began := time.Now()
	end := began.Add(turn)
	if err := w.conn.SetDeadline(end.Add(patience)); err != nil {
		return nil, fmt.Errorf("bounding a turn: %w", err)
	}
	for due := began; due.Before(end) || len(w.calls) > 0; {
		now := time.Now()
		if now.After(end.Add(patience)) {
			return nil, fmt.Errorf("the check did not answer %d calls within %s", len(w.calls), patience)
		}
		for !due.After(now) && due.Before(end) && w.send(l, due) {
			due = due.Add(pause)
		}
		if err := w.flush(); err != nil {
			return nil, err
		}
		if err := w.fill(false); err != nil {
			return nil, err
		}
		for frame := w.whole(); frame != nil; frame = w.whole() {
			done, err := w.take(frame, l)
			if err != nil {
				return nil, err
			}
			if done != nil {
				latency = append(latency, time.Since(done.began))
			}
		}
	}
	return latency, nil
}
