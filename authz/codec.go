package authz

import (
	"context"
	"sync"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// codec gives a Check to the question as it came, and sends an answer as it is. Everything
// else on the port is left to gRPC's own codec.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(protocodec.Name)} }

// Unmarshal implements [encoding.CodecV2].
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	q, ok := v.(*question)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	return q.take(data.MaterializeToBuffer(mem.DefaultBufferPool()))
}

// Marshal implements [encoding.CodecV2].
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	a, ok := v.(*answer)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	return mem.BufferSlice{a.Buffer}, nil
}

// questions are used again: gRPC would make a new one for each Check. What one holds of a
// request is removed first.
var questions = sync.Pool{New: func() any { return new(question) }}

// checkService describes the same service as generated code does, for this codec.
var checkService = grpc.ServiceDesc{
	ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
	HandlerType: authv3.Authorization_ServiceDesc.HandlerType,
	Methods:     []grpc.MethodDesc{{MethodName: "Check", Handler: handleCheck}},
	Metadata:    authv3.Authorization_ServiceDesc.Metadata,
}

// handleCheck is a [grpc.MethodHandler]. The interceptor is [endAnswered], which is called
// here without the closure that a handler for it would be.
//
//nolint:revive // gRPC gives the order of the arguments
func handleCheck(server any, ctx context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	call := streamOf(ctx)
	defer call.answered()
	q := questions.Get().(*question) //nolint:forcetypeassert // the pool has nothing else
	defer func() {
		q.release()
		questions.Put(q)
	}()
	if call != nil && call.refused {
		return nil, errTooMany // the message may never come
	}
	if err := read(q); err != nil {
		return nil, err
	}
	if err := call.arrived(); err != nil {
		return nil, err
	}
	return server.(*Server).answer(ctx, q), nil //nolint:forcetypeassert // gRPC has checked the type
}
