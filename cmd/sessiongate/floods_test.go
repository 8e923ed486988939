package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// A flood is what an attacker writes in round i. Rounds are small.
type flood func(f *http2.Framer, i uint32)

// header is the block of a Check's header, and more where that is given. The peer must remember
// none of it.
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

// write floods one connection until it is cut, or the server has read it all. What is answered is read, or, where deaf, is not.
func (fl flood) write(c *net.TCPConn, most int, deaf bool) {
	if !deaf {
		var ends sync.WaitGroup
		ends.Go(func() { _, _ = io.Copy(io.Discard, c) })
		defer ends.Wait()
		defer func() { _ = c.CloseWrite() }() // what the server has not read yet, it has to read before it sees this
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

// TestServeAlone is the process that another test starts.
func TestServeAlone(t *testing.T) {
	t.Parallel()
	if os.Getenv("SESSIONGATE_TEST_ALONE") == "" {
		t.Skip("for the test of floods")
	}
	environ := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "SESSIONGATE_TEST_") })
	if err := (serveCmd{}).Run(&flags{}, process{ctx: t.Context(), environ: environ, stdout: io.Discard, stderr: io.Discard}); err != nil {
		t.Fatal(err)
	}
}

// alone serves in a process of its own, so that its memory is the server's and its threads are not the attacker's.
func alone(t *testing.T, environ ...string) (addresses map[string]string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "addresses")
	server := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestServeAlone$")
	server.Env = append(append(os.Environ(), "SESSIONGATE_TEST_ALONE=1", "SESSIONGATE_LISTEN_ADDRESS_FILE="+file), environ...)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	t.Cleanup(func() { _ = server.Process.Kill(); <-ended })
	for {
		if text, err := os.ReadFile(file); err == nil && json.Unmarshal(text, &addresses) == nil {
			return addresses
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the server ended: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// heap is what a process holds of memory, as it says.
func heap(t *testing.T, internal string) (mib int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+internal+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		var bytes float64
		if _, err := fmt.Sscanf(lines.Text(), "go_memstats_heap_inuse_bytes %g", &bytes); err == nil {
			return int(bytes) >> 20
		}
	}
	t.Fatal("it does not say what it holds")
	return 0
}

// Floods of HTTP/2 on the gRPC port cost others no answer, and the process little memory.
func TestFloodsOfChecks(t *testing.T) { //nolint:paralleltest // a flood takes what processors there are
	c, err := cluster.Start(t.Context(), cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	if err := c.CreateDatabase(t.Context(), "floods", ""); err != nil {
		t.Fatal(err)
	}
	addresses := alone(t, "SESSIONGATE_DATABASE_URL="+c.URL("floods"), "SESSIONGATE_KEY="+testKey, "SESSIONGATE_GRPC_MAX_CALLS=1024",
		"GOGC=100", // what a flood holds is bounded, not what garbage is left
		"SESSIONGATE_LISTEN_AUTHZ=127.0.0.1:0", "SESSIONGATE_LISTEN_PUBLIC=127.0.0.1:0", "SESSIONGATE_LISTEN_INTERNAL=127.0.0.1:0")
	const (
		connections = 20
		bytesEach   = 2 << 20 // some 40,000 streams
		heapMost    = 120     // MiB; without the bounds it is a multiple of that
	)
	envoy, err := grpc.NewClient(addresses["authz"], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = envoy.Close() })
	address, err := net.ResolveTCPAddr("tcp", addresses["authz"])
	if err != nil {
		t.Fatal(err)
	}
	check := func() error {
		_, err := authv3.NewAuthorizationClient(envoy).Check(t.Context(), new(authv3.CheckRequest))
		return err
	}
	for name, fl := range floods() {
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // one flood at a time
			before := heap(t, addresses["internal"])
			var attackers sync.WaitGroup
			var attacking atomic.Int32
			for i := range connections {
				conn, err := net.DialTCP("tcp", nil, address)
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
			answered, peak := 0, 0
			for done := false; !done; {
				done = attacking.Load() <= connections/2 // the deaf ones may have stopped the server's writing, and so its reading
				if err := check(); err != nil {
					t.Fatalf("an honest check beside the flood, after %d: %v", answered, err)
				}
				answered++
				peak = max(peak, heap(t, addresses["internal"]))
			}
			t.Logf("%d honest checks answered; heap %d MiB, at most %d MiB", answered, before, peak)
			if peak > heapMost {
				t.Errorf("the heap grew from %d to %d MiB", before, peak)
			}
		})
	}
}
