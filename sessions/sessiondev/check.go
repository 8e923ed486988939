package sessiondev

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// checkRequest is what Envoy asks with the shipped envoy.yaml about r: the headers that are
// allowed, each line as its bytes came, and no word on policy, which is in the table of routes.
func checkRequest(r *request) *authv3.CheckRequest {
	var names []string
	for name := range r.header {
		if isAllowed(strings.ToLower(name)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	headers := &corev3.HeaderMap{}
	for _, name := range names {
		for _, value := range r.header[name] {
			headers.Headers = append(headers.Headers, &corev3.HeaderValue{Key: strings.ToLower(name), RawValue: []byte(value)})
		}
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source:      &authv3.AttributeContext_Peer{Address: addressOf(r.peer)},
		Destination: &authv3.AttributeContext_Peer{Address: addressOf(r.local)},
		Request: &authv3.AttributeContext_Request{
			Time: timestamppb.New(r.began),
			Http: &authv3.AttributeContext_HttpRequest{
				Id: strconv.FormatUint(r.id, 10), Method: r.method, HeaderMap: headers, Path: r.target.String(), Host: r.host, Scheme: scheme, Protocol: "HTTP/1.1",
			},
		},
		MetadataContext:      &corev3.Metadata{},
		RouteMetadataContext: &corev3.Metadata{},
	}}
}

func addressOf(hostport string) *corev3.Address {
	host, text, _ := net.SplitHostPort(hostport)
	port, _ := strconv.ParseUint(text, 10, 16)
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

// check asks about r. Where it passes, its headers are as the app may see them, and check returns
// true. Where not, check has answered.
func (p *proxy) check(ctx context.Context, w http.ResponseWriter, r *request) bool {
	response, err := p.authz.Check(ctx, checkRequest(r))
	if err != nil { // status_on_error; authz never gives one
		unavailable(w, "The check failed.")
		return false
	}
	if response.GetStatus().GetCode() != int32(codes.OK) {
		denied := response.GetDeniedResponse()
		status := int(denied.GetStatus().GetCode())
		if status == 0 {
			status = http.StatusForbidden // Envoy's default
		}
		set(w.Header(), denied.GetHeaders())
		answer(w, status, denied.GetBody())
		return false
	}
	allowed := response.GetOkResponse()
	set(r.header, allowed.GetHeaders())
	for _, name := range allowed.GetHeadersToRemove() {
		r.header.Del(name)
	}
	return true
}

// set replaces headers. sessiongate never asks for another line beside one that is there.
func set(h http.Header, options []*corev3.HeaderValueOption) {
	for _, option := range options {
		h.Set(option.GetHeader().GetKey(), option.GetHeader().GetValue())
	}
}

// newRequestID is a random UUID (RFC 9562 §5.4), as Envoy makes one for each request.
func newRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func newID() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}
