package authz

import (
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// answer is a CheckResponse, encoded, as gRPC takes it. It must not be changed: that of an
// identity is shared.
type answer struct{ mem.Buffer }

// metadata is a google.protobuf.Struct, encoded.
type metadata []byte

func newMetadata(fields map[string]*structpb.Value) (metadata, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(&structpb.Struct{Fields: fields})
}

// The numbers of the fields that are written.
const (
	fieldStatus   = 1 // CheckResponse
	fieldDenied   = 2
	fieldOK       = 3
	fieldMetadata = 4
	fieldCode     = 1 // Status, and HttpStatus

	fieldDeniedStatus = 1 // DeniedHttpResponse
	fieldDeniedBody   = 3
	fieldSetHeaders   = 2 // OkHttpResponse, and DeniedHttpResponse
	fieldRemove       = 5 // OkHttpResponse

	fieldOptionHeader = 1 // HeaderValueOption
	fieldOptionAppend = 2
)

// newAnswer is the only place where a CheckResponse is made. Envoy decides by status.code,
// whose zero value means OK. So the code is always set, and is a denial unless the reply
// lets the request pass.
//
// It writes protobuf's wire format itself. The generated code would build some twenty
// objects for each answer, only to read them once.
func newAnswer(a reply) *answer {
	passes := a.status == 0 && a.code == code.Code_OK
	if !passes {
		if a.code == code.Code_OK {
			a.code = code.Code_PERMISSION_DENIED
		}
		a.headers = append(a.headers, header{"cache-control", "no-store"}, header{"vary", varied})
	}
	size := messageRoom + len(a.body) + len(a.metadata)
	for _, h := range a.headers {
		size += headerRoom + len(h.name) + len(h.value)
	}
	for _, name := range a.remove {
		size += headerRoom + len(name)
	}
	b := make([]byte, 0, size)

	b = appendNumber(b, fieldStatus, uint64(a.code)) //nolint:gosec // codes are small
	if passes {
		b = appendMessage(b, fieldOK, func(b []byte) []byte {
			b = appendHeaders(b, a.headers)
			for _, name := range a.remove {
				b = protowire.AppendTag(b, fieldRemove, protowire.BytesType)
				b = protowire.AppendString(b, name)
			}
			return b
		})
	} else {
		b = appendMessage(b, fieldDenied, func(b []byte) []byte {
			// 440 is not in Envoy's list of codes, but travels as a number.
			b = appendNumber(b, fieldDeniedStatus, uint64(a.status)) //nolint:gosec // three digits
			b = appendHeaders(b, a.headers)
			b = protowire.AppendTag(b, fieldDeniedBody, protowire.BytesType)
			return protowire.AppendString(b, a.body)
		})
	}
	b = protowire.AppendTag(b, fieldMetadata, protowire.BytesType)
	b = protowire.AppendBytes(b, a.metadata)
	return &answer{mem.SliceBuffer(b)}
}

const (
	// messageRoom and headerRoom are more than the tags and lengths around the texts need.
	messageRoom, headerRoom = 48, 24
	// lengthRoom is the size of the length of a message that is not written yet.
	lengthRoom = 5
)

// appendNumber appends a message whose one field is a code.
func appendNumber(b []byte, field protowire.Number, n uint64) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(protowire.SizeTag(fieldCode)+protowire.SizeVarint(n))) //nolint:gosec // a size
	b = protowire.AppendTag(b, fieldCode, protowire.VarintType)
	return protowire.AppendVarint(b, n)
}

// appendMessage appends what write appends, as a message.
func appendMessage(b []byte, field protowire.Number, write func([]byte) []byte) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	from := len(b) + lengthRoom
	b = write(append(b, make([]byte, lengthRoom)...))
	text := b[from:]
	b = protowire.AppendVarint(b[:from-lengthRoom], uint64(len(text)))
	return append(b, text...)
}

// appendHeaders appends HeaderValueOptions that replace. An unset append means "append" to
// some versions of Envoy, and then a client's own x-session-user-id would survive. Every
// version reads append; append_action, only newer ones.
func appendHeaders(b []byte, headers []header) []byte {
	const replaces = 2 // bytes: the field append, and the length of a BoolValue that is false
	for _, h := range headers {
		pair := stringSize(fieldKey, h.name) + stringSize(fieldValue, h.value)
		b = protowire.AppendTag(b, fieldSetHeaders, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(protowire.SizeTag(fieldOptionHeader)+protowire.SizeBytes(pair)+replaces)) //nolint:gosec // a size
		b = protowire.AppendTag(b, fieldOptionHeader, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(pair)) //nolint:gosec // a size
		b = appendString(b, fieldKey, h.name)
		b = appendString(b, fieldValue, h.value)
		b = protowire.AppendTag(b, fieldOptionAppend, protowire.BytesType)
		b = append(b, 0)
	}
	return b
}

// appendString appends a string that is not empty, or nothing (proto3).
func appendString(b []byte, field protowire.Number, text string) []byte {
	if text == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), text)
}

func stringSize(field protowire.Number, text string) int {
	if text == "" {
		return 0
	}
	return protowire.SizeTag(field) + protowire.SizeBytes(len(text))
}
