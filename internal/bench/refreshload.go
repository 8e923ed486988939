package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// caller is one keepalive connection of the load generator. It sends requests that were made
// beforehand, and reads of an answer only what it must: the generator shares the machine with what
// it measures.
type caller struct {
	conn net.Conn
	r    *bufio.Reader
	head []byte
	body []byte
}

func newCaller(ctx context.Context, address string) (*caller, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &caller{conn: conn, r: bufio.NewReader(conn)}, nil
}

// do sends a request and reads the answer. Its head and body are good until the next call.
func (c *caller) do(request []byte) (head, body []byte, err error) {
	if _, err := c.conn.Write(request); err != nil {
		return nil, nil, err
	}
	c.head, c.body = c.head[:0], c.body[:0]
	length, chunked := 0, false
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return nil, nil, fmt.Errorf("reading an answer: %w", err)
		}
		c.head = append(c.head, line...)
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return nil, nil, fmt.Errorf("reading an answer: %w", err)
			}
		}
		chunked = chunked || string(line) == "Transfer-Encoding: chunked"
	}
	if !chunked {
		err := c.read(length)
		return c.head, c.body, err
	}
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return nil, nil, fmt.Errorf("reading an answer: %w", err)
		}
		size, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 32)
		if err != nil {
			return nil, nil, fmt.Errorf("reading an answer: %w", err)
		}
		err = c.read(int(size))
		if err == nil {
			_, err = c.r.Discard(len("\r\n"))
		}
		if size == 0 || err != nil {
			return c.head, c.body, err
		}
	}
}

// read reads n more bytes of the body.
func (c *caller) read(n int) error {
	had := len(c.body)
	c.body = slices.Grow(c.body, n)[:had+n]
	_, err := io.ReadFull(c.r, c.body[had:])
	return err
}

// closedLoop is a load: each connection sends the next request once the last one was answered.
type closedLoop struct {
	address     string
	connections int
	requests    [][]byte
	once        bool          // each request is sent once, so a turn may end early
	turn        time.Duration // 0: no bound, for once
	// judge says whether request i got the right answer. It is called for each answer.
	judge func(i int, head, body []byte) error
}

// sampled is how many answers share one sample of latency.
const sampled = 8

func (l closedLoop) run(ctx context.Context) (m measurement, err error) {
	if len(l.requests) == 0 {
		return m, errors.New("no requests")
	}
	callers := make([]*caller, l.connections)
	for i := range callers {
		if callers[i], err = newCaller(ctx, l.address); err != nil {
			return m, err
		}
		defer func() { _ = callers[i].conn.Close() }()
	}
	var next, answered atomic.Int64
	latencies := make([][]time.Duration, len(callers))
	began := time.Now()
	var g errgroup.Group
	for n, c := range callers {
		g.Go(func() error {
			for first := true; ; first = false { // a turn is not empty, however busy the machine is
				i, sent := int(next.Add(1))-1, time.Now()
				if !first && l.turn > 0 && sent.Sub(began) >= l.turn || l.once && i >= len(l.requests) {
					return nil
				}
				head, body, err := c.do(l.requests[i%len(l.requests)])
				if err != nil {
					return err
				}
				if err := l.judge(i%len(l.requests), head, body); err != nil {
					return err
				}
				answered.Add(1)
				if i%sampled == 0 {
					latencies[n] = append(latencies[n], time.Since(sent))
				}
			}
		})
	}
	err = g.Wait()
	m.took, m.requests = time.Since(began), int(answered.Load())
	for _, of := range latencies {
		m.latency = append(m.latency, of...)
	}
	return m, err
}

// refused is the error of an answer that is not the expected one. It does not show the answer, which
// may have tokens.
func refused(head []byte, want string) error {
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	return fmt.Errorf("an answer begins with %q, want %s", line, want)
}
