package authz

import (
	"errors"
	"unicode/utf8"
	"unsafe"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// This file reads a CheckRequest as it came, without the generated code. That code makes
// some fifty objects of each request, and a Check needs a few of its strings.
//
// The generated code stays the judge of what a message means. scan reads the messages that
// Envoy writes: each field once, in the order of its number. For every other message it
// gives up, and the generated code reads it, or says what is wrong with it. So there is no
// message that one takes and the other refuses, or that both read differently: FuzzScan
// compares them.

// question is a Check that was asked: what the rules need of a CheckRequest. Its strings are
// parts of the message, whose bytes gRPC uses again for other requests: they are good until
// release. What outlives the Check must be a copy; the log makes some.
type question struct {
	request

	// extensions are the context_extensions of Envoy's route. The map is used again, too.
	extensions map[string]string
	// message is what the strings are parts of; nil where they are their own.
	message mem.Buffer
}

// take reads a CheckRequest. The question holds the message from then on, also where it
// could not be read.
func (q *question) take(message mem.Buffer) (err error) {
	q.release() // a client may send two messages, which gRPC refuses only then
	q.message = message
	defer func() {
		if recover() != nil { // no message is known to do that
			err = errUnreadable
		}
	}()
	return q.read(message.ReadOnlyData())
}

var errUnreadable = errors.New("reading the CheckRequest panicked")

// release forgets the request.
func (q *question) release() {
	if q.message != nil {
		q.message.Free()
	}
	clear(q.extensions)
	*q = question{extensions: q.extensions}
}

// read reads a CheckRequest from its bytes, which must not change before the question is
// released.
func (q *question) read(wire []byte) error {
	text := unsafe.String(unsafe.SliceData(wire), len(wire)) //nolint:gosec // see question: a copy costs a twelfth of a Check
	s := scanner{wire: wire, text: text, into: q}
	if s.checkRequest() {
		q.finish()
		return nil
	}
	c := &authv3.CheckRequest{}
	if err := proto.Unmarshal(wire, c); err != nil {
		return err
	}
	clear(q.extensions) // of what was scanned in vain
	q.request, q.extensions = readRequest(c), c.GetAttributes().GetContextExtensions()
	return nil
}

// scanner reads wire, whose bytes text has, too.
type scanner struct {
	wire []byte
	text string
	into *question
}

// span is a part of a message, by its first byte and the one after its last.
type span struct{ from, to int }

// next reads a field's tag and takes it from rest. It is false at what the generated code
// is to judge: a broken tag, a number that no field may have, a group.
func (s *scanner) next(rest *span) (protowire.Number, protowire.Type, bool) {
	number, kind, n := protowire.ConsumeTag(s.wire[rest.from:rest.to])
	if n < 0 || number > protowire.MaxValidNumber || kind == protowire.StartGroupType || kind == protowire.EndGroupType {
		return 0, 0, false
	}
	rest.from += n
	return number, kind, true
}

// bytes reads a value of the type that strings and messages have, and takes it from rest.
func (s *scanner) bytes(rest *span) (span, bool) {
	length, n := protowire.ConsumeVarint(s.wire[rest.from:rest.to])
	if n < 0 || length > uint64(rest.to-rest.from-n) { //nolint:gosec // rest is no negative length
		return span{}, false
	}
	value := span{rest.from + n, rest.from + n + int(length)} //nolint:gosec // at most the length of rest
	rest.from = value.to
	return value, true
}

// string reads a string. Its text must be UTF-8 (proto3).
func (s *scanner) string(rest *span) (string, bool) {
	value, ok := s.bytes(rest)
	text := s.text[value.from:value.to]
	return text, ok && utf8.ValidString(text)
}

// The numbers of the fields that are read.
const (
	fieldAttributes  = 1 // CheckRequest
	fieldRequest     = 4 // AttributeContext
	fieldExtensions  = 10
	fieldHTTP        = 2 // Request
	fieldID          = 1 // HttpRequest
	fieldMethod      = 2
	fieldHeaders     = 3
	fieldPath        = 4
	fieldHost        = 5
	fieldScheme      = 6
	fieldHeaderMap   = 13
	fieldHeader      = 1 // HeaderMap
	fieldKey         = 1 // HeaderValue, and the entry of a map
	fieldValue       = 2
	fieldRawValue    = 3
	typeOfText       = protowire.BytesType // and of messages
	nestingMax       = 32                  // of what is skipped; the generated code reads what is deeper
	extensionsExpect = 8
)

func (s *scanner) checkRequest() bool {
	rest := span{0, len(s.wire)}
	for last := protowire.Number(0); rest.from < rest.to; {
		number, kind, ok := s.next(&rest)
		switch {
		case !ok:
		case number == fieldAttributes && kind == typeOfText:
			var value span
			if value, ok = s.bytes(&rest); ok {
				ok = last < number && s.attributes(value)
			}
		default:
			ok = s.skip(&rest, checkRequestShape, number, kind, nestingMax)
		}
		if !ok {
			return false
		}
		last = max(last, number)
	}
	return true
}

func (s *scanner) attributes(rest span) bool {
	for last := protowire.Number(0); rest.from < rest.to; {
		number, kind, ok := s.next(&rest)
		switch {
		case !ok:
		case number == fieldRequest && kind == typeOfText:
			var value span
			if value, ok = s.bytes(&rest); ok {
				ok = last < number && s.request(value)
			}
		case number == fieldExtensions && kind == typeOfText:
			var value span
			if value, ok = s.bytes(&rest); ok {
				ok = s.extension(value)
			}
		default:
			ok = s.skip(&rest, attributesShape, number, kind, nestingMax)
		}
		if !ok {
			return false
		}
		last = max(last, number)
	}
	return true
}

// extension reads one of context_extensions.
func (s *scanner) extension(entry span) bool {
	key, value, ok := s.entry(entry)
	if !ok {
		return false
	}
	if s.into.extensions == nil {
		s.into.extensions = make(map[string]string, extensionsExpect)
	}
	s.into.extensions[key] = value
	return true
}

// entry reads an entry of a map of strings.
func (s *scanner) entry(rest span) (key, value string, ok bool) {
	for rest.from < rest.to {
		number, kind, ok := s.next(&rest)
		switch {
		case !ok:
		case number == fieldKey && kind == typeOfText:
			key, ok = s.string(&rest)
		case number == fieldValue && kind == typeOfText:
			value, ok = s.string(&rest)
		default:
			ok = false
		}
		if !ok {
			return "", "", false
		}
	}
	return key, value, true
}

func (s *scanner) request(rest span) bool {
	for last := protowire.Number(0); rest.from < rest.to; {
		number, kind, ok := s.next(&rest)
		switch {
		case !ok:
		case number == fieldHTTP && kind == typeOfText:
			var value span
			if value, ok = s.bytes(&rest); ok {
				ok = last < number && s.http(value)
			}
		default:
			ok = s.skip(&rest, requestShape, number, kind, nestingMax)
		}
		if !ok {
			return false
		}
		last = max(last, number)
	}
	return true
}

func (s *scanner) http(rest span) bool {
	r := &s.into.request
	var target string
	var more repeated
	for last := protowire.Number(0); rest.from < rest.to; {
		number, kind, ok := s.next(&rest)
		if !ok || number < last {
			return false // headers of both forms would be joined in another order
		}
		last = number
		if kind != typeOfText {
			if !s.skip(&rest, httpShape, number, kind, nestingMax) {
				return false
			}
			continue
		}
		switch number {
		case fieldID:
			r.id, ok = s.string(&rest)
		case fieldMethod:
			r.method, ok = s.string(&rest)
		case fieldPath:
			target, ok = s.string(&rest)
		case fieldHost:
			r.host, ok = s.string(&rest)
		case fieldScheme:
			r.scheme, ok = s.string(&rest)
		case fieldHeaders:
			var value span
			if value, ok = s.bytes(&rest); ok {
				ok = s.mapped(value)
			}
		case fieldHeaderMap:
			var value span
			if value, ok = s.bytes(&rest); ok {
				ok = s.headerMap(value, &more)
			}
		default:
			ok = s.skip(&rest, httpShape, number, kind, nestingMax)
		}
		if !ok {
			return false
		}
	}
	r.setTarget(target)
	r.join(more)
	return true
}

// mapped reads one of the headers that came as a map. In a map, a second value of a key
// replaces the first one, and keys that differ in case have no order.
func (s *scanner) mapped(entry span) bool {
	name, value, ok := s.entry(entry)
	if !ok {
		return false
	}
	field, _ := s.into.field(name)
	if field == nil {
		return true
	}
	if *field != "" {
		return false
	}
	*field = value
	return true
}

func (s *scanner) headerMap(rest span, more *repeated) bool {
	for rest.from < rest.to {
		number, kind, ok := s.next(&rest)
		if !ok || number != fieldHeader || kind != typeOfText {
			return false
		}
		header, ok := s.bytes(&rest)
		if !ok || !s.header(header, more) {
			return false
		}
	}
	return true
}

func (s *scanner) header(rest span, more *repeated) bool {
	var name, value string
	var raw span
	for rest.from < rest.to {
		number, kind, ok := s.next(&rest)
		if !ok || kind != typeOfText {
			return false
		}
		switch number {
		case fieldKey:
			name, ok = s.string(&rest)
		case fieldValue:
			value, ok = s.string(&rest)
		case fieldRawValue:
			raw, ok = s.bytes(&rest)
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	if raw.from < raw.to {
		value = s.text[raw.from:raw.to]
	}
	s.into.add(more, name, value)
	return true
}

// skip reads a field of a message that is not needed, and takes it from rest. A string must
// be UTF-8 there, too, and a message well formed.
func (s *scanner) skip(rest *span, of *shape, number protowire.Number, kind protowire.Type, nesting int) bool {
	if kind != typeOfText {
		n := protowire.ConsumeFieldValue(number, kind, s.wire[rest.from:rest.to])
		rest.from += max(n, 0)
		return n >= 0 && !of.is(number).judged
	}
	value, ok := s.bytes(rest)
	if !ok {
		return false
	}
	switch field := of.is(number); {
	case field.judged:
		return false
	case field.text:
		return utf8.ValidString(s.text[value.from:value.to])
	case field.message != nil:
		return nesting > 0 && s.message(value, field.message, nesting-1)
	default:
		return true
	}
}

func (s *scanner) message(rest span, of *shape, nesting int) bool {
	for rest.from < rest.to {
		number, kind, ok := s.next(&rest)
		if !ok || !s.skip(&rest, of, number, kind, nesting) {
			return false
		}
	}
	return true
}

// shape is what the fields of a message are, by their numbers. A field without an entry is
// unknown, or needs no look at its bytes.
type shape []fieldShape

type fieldShape struct {
	text    bool
	message *shape // or nil
	judged  bool   // the generated code is to judge it
}

func (s *shape) is(number protowire.Number) fieldShape {
	if int(number) < len(*s) {
		return (*s)[number]
	}
	return fieldShape{}
}

var (
	checkRequestShape = shapeOf((&authv3.CheckRequest{}).ProtoReflect().Descriptor(), map[protoreflect.FullName]*shape{})
	attributesShape   = checkRequestShape.is(fieldAttributes).message
	requestShape      = attributesShape.is(fieldRequest).message
	httpShape         = requestShape.is(fieldHTTP).message
)

// shapeOf reads a message's descriptor, and those of the messages in it, each once.
func shapeOf(d protoreflect.MessageDescriptor, known map[protoreflect.FullName]*shape) *shape {
	if s, ok := known[d.FullName()]; ok {
		return s
	}
	s := new(shape)
	known[d.FullName()] = s
	for i := range d.Fields().Len() {
		field := d.Fields().Get(i)
		for len(*s) <= int(field.Number()) {
			*s = append(*s, fieldShape{})
		}
		is := &(*s)[field.Number()]
		switch {
		case field.Kind() == protoreflect.StringKind:
			is.text = true
		case field.Kind() == protoreflect.MessageKind:
			is.message = shapeOf(field.Message(), known)
		case field.Kind() != protoreflect.BytesKind && field.IsList(), field.Kind() == protoreflect.GroupKind:
			is.judged = true // it has several forms
		}
	}
	return s
}
