package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sessiongate/sessiongate/authz"
)

// bareServer is an allow-all server with what makes sessiongate's fast: its answer is prepared, and it
// has the same stream workers, buffers and garbage collector. By itself it looks at no byte of a
// request. What sessiongate costs beyond it is its own.
func bareServer(variant string) (*grpc.Server, error) {
	const percent = 400 // memory.gc_percent
	debug.SetGCPercent(percent)
	answer, err := bareAnswer(variant)
	if err != nil {
		return nil, err
	}
	bare := bareCodec{encoding.GetCodecV2(protocodec.Name), variant == scanAllowAll, answer}
	l := authz.DefaultLimits()
	s := grpc.NewServer(grpc.NumStreamWorkers(l.StreamWorkers), grpc.MaxConcurrentStreams(l.MaxStreams), grpc.ReadBufferSize(l.ReadBuffer),
		grpc.WriteBufferSize(l.WriteBuffer), grpc.ForceServerCodecV2(bare))
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Check", Handler: func(_ any, _ context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return bareCheck, read(bareCheck)
		}}},
	}, nil)
	return s, nil
}

// likeHandle is the handle of a session as sessiongate tells it.
const likeHandle = "qdA4x5dk5U9lEtfvSThTcw"

// bareAnswer allows: with the least that an answer may have, or with what sessiongate tells of a session.
func bareAnswer(variant string) (mem.SliceBuffer, error) {
	if !slices.Contains([]string{bareAllowAll, scanAllowAll, likeAllowAll, untoldAllow}, variant) {
		return nil, fmt.Errorf("allowing all: there is no variant %q", variant)
	}
	ok := &authv3.OkHttpResponse{}
	answer := &authv3.CheckResponse{Status: &status.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok}}
	if variant == likeAllowAll || variant == untoldAllow {
		for name, value := range map[string]string{"x-session-user-id": "ada", "x-session-handle": likeHandle, "x-session-claims": "eyJyb2xlIjoiZWRpdG9yIiwib3JnIjoibG92ZWxhY2UifQ"} {
			ok.Headers = append(ok.Headers, &corev3.HeaderValueOption{
				Header: &corev3.HeaderValue{Key: name, Value: value},
				Append: wrapperspb.Bool(false), //nolint:staticcheck // as sessiongate writes it
			})
		}
	}
	if variant == likeAllowAll {
		var err error
		if answer.DynamicMetadata, err = structpb.NewStruct(map[string]any{
			"outcome": "ALLOW", "rule": "session", "code": "session", "user_id": "ada", "handle": likeHandle,
			"claims": map[string]any{"role": "editor", "org": "lovelace"},
		}); err != nil {
			return nil, fmt.Errorf("writing an answer: %w", err)
		}
	}
	text, err := proto.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("writing an answer: %w", err)
	}
	return text, nil
}

// bareCheck stands for a request that nothing reads and an answer that allows.
var bareCheck = new(mem.SliceBuffer)

type bareCodec struct {
	encoding.CodecV2

	scans  bool
	answer mem.SliceBuffer
}

// Unmarshal implements [encoding.CodecV2].
func (c bareCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if v != any(bareCheck) {
		return c.CodecV2.Unmarshal(data, v)
	}
	if !c.scans {
		return nil
	}
	message := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer message.Free()
	return scan(message.ReadOnlyData(), checkRequest)
}

// Marshal implements [encoding.CodecV2].
func (c bareCodec) Marshal(v any) (mem.BufferSlice, error) {
	if v == any(bareCheck) {
		return mem.BufferSlice{c.answer}, nil
	}
	return c.CodecV2.Marshal(v)
}

// tree are the messages in a message, by the number of their field. All other fields count as texts,
// also the raw values of headers, which are ASCII here.
type tree map[protowire.Number]tree

// checkRequest are the messages in a CheckRequest on the way to its headers.
var checkRequest = tree{1: { // attributes
	1: {1: {1: {}}}, 2: {1: {1: {}}}, // source and destination: address: socket_address
	4:  {1: {}, 2: {3: {}, 13: {1: {}}}}, // request: time; http: headers; header_map: headers
	10: {}, 11: {},                       // context_extensions, metadata_context
}}

var errNoMessage = errors.New("this is no CheckRequest")

// scan looks at each field once, as a reader of protobuf must: texts are UTF-8, messages well formed.
func scan(wire []byte, in tree) error {
	for len(wire) > 0 {
		number, kind, n := protowire.ConsumeTag(wire)
		if n < 0 {
			return errNoMessage
		}
		wire = wire[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, kind, wire); n < 0 {
				return errNoMessage
			}
			wire = wire[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(wire)
		if n < 0 {
			return errNoMessage
		}
		wire = wire[n:]
		if message, ok := in[number]; ok {
			if err := scan(value, message); err != nil {
				return err
			}
		} else if !utf8.Valid(value) {
			return errNoMessage
		}
	}
	return nil
}
