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
	headers := 0
	for _, h := range a.headers {
		headers += h.size()
	}
	if a.status == 0 && a.code == code.Code_OK {
		return newAllowed(a, headers)
	}
	if a.code == code.Code_OK {
		a.code = code.Code_PERMISSION_DENIED
	}
	// 440 is not in Envoy's list of codes, but travels as a number.
	denied := codeSize(uint64(a.status)) + headers + len(neverStored) + fieldSize(len(a.body)) //nolint:gosec // three digits
	b := startAnswer(a, fieldDenied, denied)
	b = appendCode(b, fieldDeniedStatus, uint64(a.status)) //nolint:gosec // three digits
	b = append(appendHeaders(b, a.headers), neverStored...)
	b = appendField(b, fieldDeniedBody, a.body)
	return endAnswer(b, a)
}

func newAllowed(a reply, headers int) *answer {
	allowed := headers
	for _, name := range a.remove {
		allowed += fieldSize(len(name))
	}
	b := appendHeaders(startAnswer(a, fieldOK, allowed), a.headers)
	for _, name := range a.remove {
		b = appendField(b, fieldRemove, name)
	}
	return endAnswer(b, a)
}

// startAnswer has the status, and the beginning of a message of size bytes.
func startAnswer(a reply, field protowire.Number, size int) []byte {
	b := make([]byte, 0, codeSize(uint64(a.code))+fieldSize(size)+fieldSize(len(a.metadata))) //nolint:gosec // codes are small
	b = appendCode(b, fieldStatus, uint64(a.code))                                            //nolint:gosec // codes are small
	return appendLength(b, field, size)
}

func endAnswer(b []byte, a reply) *answer {
	return &answer{mem.SliceBuffer(appendField(b, fieldMetadata, a.metadata))}
}

// neverStored are the headers of every denial.
var neverStored = appendHeaders(nil, []header{{"cache-control", "no-store"}, {"vary", varied}})

// fieldSize is the size of a field with size bytes. All numbers that are written have a tag of one byte.
func fieldSize(size int) int { return 1 + protowire.SizeBytes(size) }

func appendLength(b []byte, field protowire.Number, size int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(size)) //nolint:gosec // a size
}

func appendField[T string | metadata](b []byte, field protowire.Number, value T) []byte {
	return append(appendLength(b, field, len(value)), value...)
}

// codeSize is the size of a message whose one field is a code, as appendCode writes it.
func codeSize(n uint64) int { return fieldSize(1 + protowire.SizeVarint(n)) }

func appendCode(b []byte, field protowire.Number, n uint64) []byte {
	b = appendLength(b, field, 1+protowire.SizeVarint(n))
	return protowire.AppendVarint(protowire.AppendTag(b, fieldCode, protowire.VarintType), n)
}

// replaces is the size of the field append, with a BoolValue that is false.
const replaces = 2

// pairSize is the size of a HeaderValue, size that of its HeaderValueOption as a field.
func (h header) pairSize() int { return textSize(h.name) + textSize(h.value) }
func (h header) size() int     { return fieldSize(fieldSize(h.pairSize()) + replaces) }

// appendHeaders appends HeaderValueOptions that replace. An unset append means "append" to
// some versions of Envoy, and then a client's own x-session-user-id would survive. Every
// version reads append; append_action, only newer ones.
func appendHeaders(b []byte, headers []header) []byte {
	for _, h := range headers {
		pair := h.pairSize()
		b = appendLength(b, fieldSetHeaders, fieldSize(pair)+replaces)
		b = appendLength(b, fieldOptionHeader, pair)
		b = appendText(b, fieldKey, h.name)
		b = appendText(b, fieldValue, h.value)
		b = append(protowire.AppendTag(b, fieldOptionAppend, protowire.BytesType), 0)
	}
	return b
}

// appendText appends a string that is not empty, or nothing (proto3).
func appendText(b []byte, field protowire.Number, text string) []byte {
	if text == "" {
		return b
	}
	return appendField(b, field, text)
}

func textSize(text string) int {
	if text == "" {
		return 0
	}
	return fieldSize(len(text))
}
