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
// The generated code stays the judge of what a message means. The scanner reads the messages
// that Envoy writes: each field once, in the order of its number. For every other message it
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
	scanner scanner // in here, for one of its own would be an allocation
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
	s := &q.scanner
	*s = scanner{wire: wire, text: text, into: q}
	if s.message(span{0, len(wire)}, checkRequestShape, nestingMax) {
		q.setTarget(s.target)
		q.join(s.more)
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

	target string   // Envoy's path
	more   repeated // of the headers
}

// span is a part of a message, by its first byte and the one after its last.
type span struct{ from, to int }

// next reads a field's tag and takes it from rest, which is not empty. It is false at what the generated
// code is to judge: a broken tag, a number that no field may have, a group.
func (s *scanner) next(rest *span) (protowire.Number, protowire.Type, bool) {
	if tag := s.wire[rest.from]; tag < 0x80 && tag >= 1<<3 && tag&7 == byte(typeOfText) { // as nearly all are
		rest.from++
		return protowire.Number(tag >> 3), typeOfText, true
	}
	number, kind, n := protowire.ConsumeTag(s.wire[rest.from:rest.to])
	if n < 0 || number > protowire.MaxValidNumber || kind == protowire.StartGroupType || kind == protowire.EndGroupType {
		return 0, 0, false
	}
	rest.from += n
	return number, kind, true
}

// bytes reads a value of the type that strings and messages have, and takes it from rest.
func (s *scanner) bytes(rest *span) (span, bool) {
	if rest.from < rest.to {
		if length := s.wire[rest.from]; length < 0x80 && int(length) < rest.to-rest.from {
			value := span{rest.from + 1, rest.from + 1 + int(length)}
			rest.from = value.to
			return value, true
		}
	}
	length, n := protowire.ConsumeVarint(s.wire[rest.from:rest.to])
	if n < 0 || length > uint64(rest.to-rest.from-n) { //nolint:gosec // rest is no negative length
		return span{}, false
	}
	value := span{rest.from + n, rest.from + n + int(length)} //nolint:gosec // at most the length of rest
	rest.from = value.to
	return value, true
}

// string reads a string, and takes it from rest.
func (s *scanner) string(rest *span) (string, bool) {
	value, ok := s.bytes(rest)
	text, valid := s.textOf(value)
	return text, ok && valid
}

// textOf is the text of a string. It must be UTF-8 (proto3).
func (s *scanner) textOf(value span) (string, bool) {
	text := s.text[value.from:value.to]
	return text, utf8.ValidString(text)
}

// typeOfText is the wire type of strings and messages. nestingMax bounds the messages in
// messages: what is deeper is left to the generated code.
const (
	typeOfText = protowire.BytesType
	nestingMax = 32
)

// message reads a message. Of a field that is needed it reads the value, of every other one
// what the generated code demands of it: a string is UTF-8, and a message well formed.
func (s *scanner) message(rest span, of *shape, nesting int) bool {
	for last := protowire.Number(0); rest.from < rest.to; {
		number, kind, ok := s.next(&rest)
		if !ok {
			return false
		}
		field := of.is(number)
		if field.once && number <= last || field.read != nil && number < last {
			return false
		}
		last = max(last, number)
		if !s.field(&rest, field, number, kind, nesting) {
			return false
		}
	}
	return true
}

// field reads a field's value and takes it from rest.
func (s *scanner) field(rest *span, field *fieldShape, number protowire.Number, kind protowire.Type, nesting int) bool {
	if kind != typeOfText {
		n := protowire.ConsumeFieldValue(number, kind, s.wire[rest.from:rest.to])
		rest.from += max(n, 0)
		return n >= 0 && !field.judged
	}
	value, ok := s.bytes(rest)
	switch {
	case !ok, field.judged:
		return false
	case field.read != nil:
		return field.read(s, value)
	case field.text:
		_, valid := s.textOf(value)
		return valid
	case field.message != nil:
		return nesting > 0 && s.message(value, field.message, nesting-1)
	default:
		return true
	}
}

// The numbers of the fields that are read.
const (
	fieldAttributes = 1 // CheckRequest
	fieldRequest    = 4 // AttributeContext
	fieldExtensions = 10
	fieldHTTP       = 2 // Request
	fieldID         = 1 // HttpRequest
	fieldMethod     = 2
	fieldHeaders    = 3
	fieldPath       = 4
	fieldHost       = 5
	fieldScheme     = 6
	fieldHeaderMap  = 13
	fieldHeader     = 1 // HeaderMap
	fieldKey        = 1 // HeaderValue, and the entry of a map
	fieldValue      = 2
	fieldRawValue   = 3 // HeaderValue
)

// extension reads one of context_extensions.
func (s *scanner) extension(entry span) bool {
	key, value, ok := s.pair(entry, fieldValue)
	if !ok {
		return false
	}
	if s.into.extensions == nil {
		s.into.extensions = map[string]string{}
	}
	s.into.extensions[key] = value
	return true
}

// mapped reads one of the headers that came as a map. In a map, a second value of a key
// replaces the first one, and keys that differ in case have no order.
func (s *scanner) mapped(entry span) bool {
	name, value, ok := s.pair(entry, fieldValue)
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

// headerMap reads the headers that came as a list.
func (s *scanner) headerMap(rest span) bool {
	for rest.from < rest.to {
		number, kind, ok := s.next(&rest)
		if !ok || number != fieldHeader || kind != typeOfText {
			return false
		}
		header, ok := s.bytes(&rest)
		if !ok {
			return false
		}
		name, value, ok := s.pair(header, fieldRawValue)
		if !ok {
			return false
		}
		s.into.add(&s.more, name, value)
	}
	return true
}

// pair reads an entry of a map of strings or, where last is fieldRawValue, a HeaderValue: its
// raw value wins.
func (s *scanner) pair(rest span, last protowire.Number) (key, value string, ok bool) {
	var raw span
	for rest.from < rest.to {
		number, kind, ok := s.next(&rest)
		if !ok || kind != typeOfText || number > last {
			return "", "", false
		}
		switch number {
		case fieldKey:
			key, ok = s.string(&rest)
		case fieldValue:
			value, ok = s.string(&rest)
		case fieldRawValue:
			raw, ok = s.bytes(&rest)
		default:
			ok = false
		}
		if !ok {
			return "", "", false
		}
	}
	if raw.from < raw.to {
		value = s.text[raw.from:raw.to]
	}
	return key, value, true
}

// shape is what the fields of a message are, by their numbers. A field without an entry is
// unknown, or needs no look at its bytes.
type shape []fieldShape

type fieldShape struct {
	text    bool
	message *shape // or nil
	judged  bool   // the generated code is to judge it

	// read takes the value of a field that the rules need, or is nil. Such fields come in the
	// order of their numbers: headers of both forms would else be joined in another order.
	read func(*scanner, span) bool
	// once is set where a message has what the rules need. A second one would be merged with
	// the first one.
	once bool
}

func (s *shape) is(number protowire.Number) *fieldShape {
	if int(number) < len(*s) {
		return &(*s)[number]
	}
	return &unknownField
}

var unknownField fieldShape

// checkRequestShape is the whole, and what is needed of it.
var checkRequestShape = func() *shape {
	all := shapeOf((&authv3.CheckRequest{}).ProtoReflect().Descriptor(), map[protoreflect.FullName]*shape{})
	attributes := all.needs(fieldAttributes)
	http := attributes.needs(fieldRequest).needs(fieldHTTP)
	(*attributes)[fieldExtensions].read = (*scanner).extension
	for number, read := range map[protowire.Number]func(*scanner, span) bool{
		fieldID:        into(func(s *scanner) *string { return &s.into.id }),
		fieldMethod:    into(func(s *scanner) *string { return &s.into.method }),
		fieldPath:      into(func(s *scanner) *string { return &s.target }),
		fieldHost:      into(func(s *scanner) *string { return &s.into.host }),
		fieldScheme:    into(func(s *scanner) *string { return &s.into.scheme }),
		fieldHeaders:   (*scanner).mapped,
		fieldHeaderMap: (*scanner).headerMap,
	} {
		(*http)[number].read = read
	}
	return all
}()

// into reads a string into a place of the question.
func into(place func(*scanner) *string) func(*scanner, span) bool {
	return func(s *scanner, value span) (ok bool) {
		*place(s), ok = s.textOf(value)
		return ok
	}
}

// needs notes that the rules need something of a message, and returns its shape.
func (s *shape) needs(number protowire.Number) *shape {
	(*s)[number].once = true
	return (*s)[number].message
}

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
