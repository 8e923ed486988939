package main

import (
	"context"
	"runtime/debug"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/sessiongate/sessiongate/authz"
)

// bareServer is an allow-all server with what makes sessiongate's fast: it looks at no byte of a
// request, its answer is prepared, and it has the same stream workers, buffers and garbage collector.
// What sessiongate costs beyond it is its own.
func bareServer() *grpc.Server {
	const percent = 400 // memory.gc_percent
	debug.SetGCPercent(percent)
	l := authz.DefaultLimits()
	s := grpc.NewServer(grpc.NumStreamWorkers(l.StreamWorkers), grpc.MaxConcurrentStreams(l.MaxStreams), grpc.ReadBufferSize(l.ReadBuffer),
		grpc.WriteBufferSize(l.WriteBuffer), grpc.ForceServerCodecV2(bareCodec{encoding.GetCodecV2(protocodec.Name)}))
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Check", Handler: func(_ any, _ context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return bareCheck, read(bareCheck)
		}}},
	}, nil)
	return s
}

// bareCheck stands for a request that nothing reads and an answer that allows.
var bareCheck = new(mem.SliceBuffer)

type bareCodec struct{ encoding.CodecV2 }

// Unmarshal implements [encoding.CodecV2].
func (c bareCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if v == any(bareCheck) {
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// Marshal implements [encoding.CodecV2].
func (c bareCodec) Marshal(v any) (mem.BufferSlice, error) {
	if v == any(bareCheck) {
		return mem.BufferSlice{mem.SliceBuffer{0x0a, 2, 0x08, 0, 0x1a, 0}}, nil // status {code: OK}, ok_response {}
	}
	return c.CodecV2.Marshal(v)
}
