package authz

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// generated makes the response to a reply with generated code.
func generated(tb testing.TB, a reply) *authv3.CheckResponse {
	tb.Helper()
	about := new(structpb.Struct)
	if err := proto.Unmarshal(a.metadata, about); err != nil {
		tb.Fatal(err)
	}
	options := func(headers []header) (all []*corev3.HeaderValueOption) {
		for _, h := range headers {
			all = append(all, &corev3.HeaderValueOption{
				Header: &corev3.HeaderValue{Key: h.name, Value: h.value},
				Append: wrapperspb.Bool(false), //nolint:staticcheck // as every version of Envoy reads it
			})
		}
		return all
	}
	if a.status == 0 && a.code == code.Code_OK {
		return &authv3.CheckResponse{
			Status: &status.Status{}, DynamicMetadata: about,
			HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{Headers: options(a.headers), HeadersToRemove: a.remove}},
		}
	}
	if a.code == code.Code_OK {
		a.code = code.Code_PERMISSION_DENIED
	}
	return &authv3.CheckResponse{
		Status: &status.Status{Code: int32(a.code)}, DynamicMetadata: about,
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status:  &typev3.HttpStatus{Code: a.status},
			Headers: append(options(a.headers), options([]header{{"cache-control", "no-store"}, {"vary", varied}})...),
			Body:    a.body,
		}},
	}
}

// FuzzAnswer: what is written is what the generated code reads.
func FuzzAnswer(f *testing.F) {
	f.Add(0, 0, "x-session-user-id", "alice", "cookie", "")
	f.Add(16, 440, "content-type", "text/plain", "", "Please call the refresh token endpoint")
	f.Add(0, 403, "", "", "authorization", strings.Repeat("x", 1<<14))
	f.Add(0, 0, "a", strings.Repeat("y", 1<<7), "", "")
	f.Fuzz(func(t *testing.T, c, http int, name, value, remove, body string) {
		name, value, remove, body = strings.ToValidUTF8(name, ""), strings.ToValidUTF8(value, ""), strings.ToValidUTF8(remove, ""), strings.ToValidUTF8(body, "")
		a := reply{
			code: code.Code(c & 0xff), status: typev3.StatusCode(http & 0x3ff), body: body,
			headers: []header{{name, value}, {value, name}}, metadata: passSession.metadata,
		}
		if remove != "" {
			a.remove = []string{remove, name}
		}
		response := new(authv3.CheckResponse)
		if err := proto.Unmarshal(newAnswer(a).ReadOnlyData(), response); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(generated(t, a), response, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	})
}
