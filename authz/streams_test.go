package authz

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // as the program has it
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// However a call ends, it is counted no more. gRPC answers some by itself, and never hands them over.
func TestEachCallEnds(t *testing.T) {
	t.Parallel()
	const check = authv3.Authorization_Check_FullMethodName
	empty := []byte{0, 0, 0, 0, 0}
	for name, tt := range map[string]struct {
		path   string
		reset  bool
		body   []byte
		header [2]string
	}{
		"answered":                    {check, false, empty, [2]string{}},
		"unknown encoding":            {check, false, empty, [2]string{"grpc-encoding", "foo"}},
		"reset, encoded":              {check, true, nil, [2]string{"grpc-encoding", "gzip"}},
		"encoded":                     {check, false, empty, [2]string{"grpc-encoding", "gzip"}},
		"badly encoded":               {check, false, []byte{1, 0, 0, 0, 1, 7}, [2]string{"grpc-encoding", "gzip"}},
		"reset":                       {check, true, nil, [2]string{}},
		"no message":                  {check, false, nil, [2]string{}},
		"two messages":                {check, false, append(bytes.Clone(empty), empty...), [2]string{}},
		"a bad message":               {check, false, []byte{0, 0, 0, 0, 1, 7}, [2]string{}},
		"a message of 4 GiB":          {check, false, []byte{0, 0xff, 0xff, 0xff, 0xff, 7}, [2]string{}},
		"unknown method":              {check + "x", false, empty, [2]string{}},
		"no method":                   {"Check", false, empty, [2]string{}},
		"health":                      {"/grpc.health.v1.Health/Check", false, empty, [2]string{}},
		"no time":                     {check, false, empty, [2]string{"grpc-timeout", "0n"}},
		"hardly any time":             {check, false, empty, [2]string{"grpc-timeout", "50u"}},
		"unknown encoding, with time": {check, false, empty, [2]string{"grpc-encoding", "foo"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := newStreams(1)
			server := grpc.NewServer(grpc.InTapHandle(calls.begin), grpc.UnaryInterceptor(endAnswered), grpc.ForceServerCodecV2(newCodec()), grpc.NumStreamWorkers(4))
			server.RegisterService(&checkService, newGate(t).server)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- server.Serve(listener) }()
			defer func() {
				server.Stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			var out, block bytes.Buffer
			out.WriteString(http2.ClientPreface)
			frames, fields := http2.NewFramer(&out, conn), hpack.NewEncoder(&block)
			_ = frames.WriteSettings() // to memory, as all that follows
			for i := range uint32(20) {
				block.Reset()
				for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", tt.path}, {":authority", "x"}, {"content-type", "application/grpc"}, tt.header} {
					if f[0] != "" {
						_ = fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
					}
				}
				_ = frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: tt.body == nil && !tt.reset})
				if tt.body != nil {
					_ = frames.WriteData(2*i+1, true, tt.body)
				}
				if tt.reset {
					_ = frames.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
				}
			}
			_ = frames.WritePing(false, [8]byte{1})
			if _, err := conn.Write(out.Bytes()); err != nil {
				t.Fatal(err)
			}
			for { // until all was read
				frame, err := frames.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				if ping, ok := frame.(*http2.PingFrame); ok && ping.IsAck() {
					break
				}
			}
			_ = conn.Close()
			for left, until := 1, time.Now().Add(10*time.Second); left > 0; {
				// Another call begins, and ends at once.
				another, cancel := context.WithCancel(t.Context())
				if _, err := calls.begin(another, nil); err != nil {
					t.Fatal(err)
				}
				cancel()
				calls.mu.Lock()
				left = calls.total - 1 + len(calls.of) - 1 // without that one
				calls.mu.Unlock()
				if time.Now().After(until) {
					t.Fatalf("%d are still counted", left)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
}

// gRPC keeps the timer of a call that was refused at its header, so none may be refused there whose timer
// runs for long.
func TestRefusedCallsLeaveNoTimer(t *testing.T) {
	t.Parallel()
	calls := newStreams(1)
	conn := peer.NewContext(t.Context(), &peer.Peer{})
	for range streamsFair {
		if _, err := calls.begin(conn, nil); err != nil {
			t.Fatal(err)
		}
	}
	for life, atHeader := range map[time.Duration]bool{0: true, time.Second: true, 5 * time.Second: false, time.Minute: false, 1000000 * time.Hour: false} {
		ctx, cancel := conn, context.CancelFunc(func() {})
		if life > 0 {
			ctx, cancel = context.WithTimeout(conn, life)
		}
		defer cancel()
		begun, err := calls.begin(ctx, nil)
		if refused := err != nil; refused != atHeader {
			t.Errorf("%s: refused at its header: %t, want %t", life, refused, atHeader)
		}
		if err != nil {
			continue
		}
		if until, _ := begun.Deadline(); time.Until(until) > refusedMax {
			t.Errorf("%s: a refused call lives until %s", life, until)
		}
		if _, err := handleCheck(nil, begun, func(any) error { t.Error("it is read"); return nil }, nil); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%s: a check: %v", life, err)
		}
		if _, err := endAnswered(begun, nil, nil, nil); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%s: another call: %v", life, err)
		}
	}
	if calls.total != streamsFair {
		t.Errorf("%d are counted", calls.total)
	}
}
