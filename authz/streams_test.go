package authz

import (
	"bytes"
	"net"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // as the program has it
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
				calls.mu.Lock()
				calls.sweep() // as a later call does
				left = calls.total + len(calls.of)
				calls.mu.Unlock()
				if time.Now().After(until) {
					t.Fatalf("%d are still counted", left)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
}
