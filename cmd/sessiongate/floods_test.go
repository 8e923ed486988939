package main

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sessiongate/sessiongate/sessions/postgres/cluster"
)

// A flood is what an attacker writes in round i. Rounds are small.
type flood func(f *http2.Framer, i uint32)

// header is the block of a Check's header, none of which the peer must remember, and
// what more it has.
func header(more ...hpack.HeaderField) []byte {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	e.SetMaxDynamicTableSize(0)
	for _, field := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: authv3.Authorization_Check_FullMethodName},
		{Name: ":authority", Value: "x"},
		{Name: "content-type", Value: "application/grpc"},
	}, more...) {
		_ = e.WriteField(field) // to memory
	}
	return block.Bytes()
}

// floods are written as they stand in the lists of attacks on HTTP/2: to memory, which never fails.
func floods() map[string]flood {
	plain := header()
	long := header(hpack.HeaderField{Name: "x", Value: strings.Repeat("x", 12_000)})
	field := bytes.Repeat([]byte{0x00, 0x01, 'a', 0x01, 'b'}, 1000) // literal, not remembered
	begin := func(f *http2.Framer, id uint32, block []byte, whole bool) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: whole})
	}
	return map[string]flood{
		"rapid reset": func(f *http2.Framer, i uint32) {
			begin(f, 2*i+1, plain, true)
			_ = f.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		},
		"rapid reset with half a message": func(f *http2.Framer, i uint32) {
			begin(f, 2*i+1, plain, true)
			_ = f.WriteData(2*i+1, false, []byte{0, 0, 0, 255, 255, 1, 2, 3})
			_ = f.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		},
		"resets that the server sends": func(f *http2.Framer, i uint32) {
			begin(f, 2*i+1, plain, true)
			_ = f.WriteWindowUpdate(2*i+1, 1<<31-1)
		},
		"streams that are never used": func(f *http2.Framer, i uint32) { begin(f, 2*i+1, plain, true) },
		"long headers":                func(f *http2.Framer, i uint32) { begin(f, 2*i+1, long, true) },
		"continuation": func(f *http2.Framer, i uint32) {
			if i == 0 {
				begin(f, 1, plain, false)
			}
			_ = f.WriteContinuation(1, false, field)
		},
		"empty continuation": func(f *http2.Framer, i uint32) {
			if i == 0 {
				begin(f, 1, plain, false)
			}
			_ = f.WriteContinuation(1, false, nil)
		},
		"ping": func(f *http2.Framer, _ uint32) { _ = f.WritePing(false, [8]byte{}) },
		"settings": func(f *http2.Framer, _ uint32) {
			_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		},
		"empty data": func(f *http2.Framer, i uint32) {
			if i == 0 {
				begin(f, 1, plain, true)
			}
			_ = f.WriteData(1, false, nil)
		},
	}
}

// write floods one connection until it is cut, or has had its bytes. What is answered is read, or, where deaf, is not.
func (fl flood) write(c net.Conn, most int, deaf bool) {
	if !deaf {
		go func() { _, _ = io.Copy(io.Discard, c) }()
	}
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&out, nil)
	_ = f.WriteSettings()
	for i := uint32(0); most > 0; i++ {
		if fl(f, i); out.Len() < 16<<10 {
			continue
		}
		n, err := c.Write(out.Bytes())
		if err != nil {
			return
		}
		most -= n
		out.Reset()
	}
}

// Floods of HTTP/2 on the gRPC port cost others no answer, and the process little memory. It is
// not parallel, for it looks at the memory of the whole process.
func TestFloodsOfChecks(t *testing.T) { //nolint:paralleltest // see above
	c, err := cluster.Start(t.Context(), cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	if err := c.CreateDatabase(t.Context(), "floods", ""); err != nil {
		t.Fatal(err)
	}
	s := serving(t, nil, "SESSIONGATE_DATABASE_URL="+c.URL("floods"), "SESSIONGATE_KEY="+testKey, "SESSIONGATE_GRPC_MAX_CALLS=1024",
		"SESSIONGATE_LISTEN_AUTHZ=127.0.0.1:0", "SESSIONGATE_LISTEN_PUBLIC=127.0.0.1:0", "SESSIONGATE_LISTEN_INTERNAL=127.0.0.1:0")
	const (
		connections = 20
		bytesEach   = 1 << 20   // some 20,000 streams
		heapMost    = 120 << 20 // without the bounds it is a multiple of that
	)
	envoy, err := grpc.NewClient(s.addresses["authz"], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = envoy.Close() })
	check := func() error {
		_, err := authv3.NewAuthorizationClient(envoy).Check(t.Context(), new(authv3.CheckRequest))
		return err
	}
	for name, fl := range floods() {
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // see above
			runtime.GC()
			var before, now runtime.MemStats
			runtime.ReadMemStats(&before)
			var attackers sync.WaitGroup
			var attacking atomic.Int32
			for i := range connections {
				conn, err := s.dial(t.Context(), "authz")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
				attacking.Add(1)
				attackers.Go(func() {
					defer attacking.Add(-1)
					fl.write(conn, bytesEach, i%2 == 1)
				})
			}
			answered, peak := 0, uint64(0)
			for done := false; !done; {
				done = attacking.Load() <= connections/2 // the deaf ones may have stopped the server's writing, and so its reading
				if err := check(); err != nil {
					t.Fatalf("an honest check beside the flood, after %d: %v", answered, err)
				}
				answered++
				runtime.ReadMemStats(&now)
				peak = max(peak, now.HeapInuse)
			}
			t.Logf("%d honest checks answered; heap %d MiB, at most %d MiB", answered, before.HeapInuse>>20, peak>>20)
			if peak > before.HeapInuse+heapMost {
				t.Errorf("the heap grew from %d to %d MiB", before.HeapInuse>>20, peak>>20)
			}
		})
	}
}
