package sessionhttp

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/sessiongate/sessiongate/internal/nearest"
)

// bodyError is a body that is not what it must be. It holds nothing of the body but names
// of this API.
type bodyError struct{ detail, field, allowed string }

func (e *bodyError) Error() string {
	if e.field == "" {
		return e.detail
	}
	return e.detail + " " + e.field + ": " + e.allowed
}

var errNull = errors.New("null")

// strict refuses unknown members, and null for any member: a member without a value is
// left out. Duplicate names (where two readers of one body would see different values),
// invalid UTF-8 and trailing data are refused by default (RFC 7493).
var strict = json.JoinOptions(
	json.RejectUnknownMembers(true),
	json.WithUnmarshalers(json.UnmarshalFromFunc(func(d *jsontext.Decoder, _ any) error {
		if d.PeekKind() == 'n' {
			return errNull
		}
		return errors.ErrUnsupported // the value is decoded as usual
	})),
)

// decode reads the JSON body of r, at most limit bytes of it, into a T, whose
// fields must not be maps. Its error is denyMediaType, a [http.MaxBytesError], a
// bodyError, that of a connection that broke, or that of a query where none belongs.
func decode[T any](w http.ResponseWriter, r *http.Request, limit int64) (T, error) {
	var v T
	if err := noQuery(r); err != nil {
		return v, err
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return v, denyMediaType
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return v, large
	}
	if err != nil {
		return v, &bodyError{detail: "The body ends too early."}
	}
	if err := json.Unmarshal(text, &v, strict); err != nil {
		return v, explain(err)
	}
	return v, nil
}

// explain says what is wrong with a body without repeating any of it. It does not use the
// text of the decoder's errors, which quotes names and values: they may be a token in the
// wrong place.
func explain(err error) *bodyError {
	if semantic := (*json.SemanticError)(nil); errors.As(err, &semantic) {
		if errors.Is(semantic.Err, json.ErrUnknownName) {
			return unknownMember(semantic)
		}
		// Since T has no maps, the pointer is made of its members' names alone.
		field := strings.ReplaceAll(strings.TrimPrefix(string(semantic.JSONPointer), "/"), "/", ".")
		if field == "" {
			return &bodyError{detail: "The body must be a JSON object."}
		}
		return &bodyError{detail: "A value is not allowed.", field: field, allowed: allowed(semantic)}
	}
	if syntactic := (*jsontext.SyntacticError)(nil); errors.As(err, &syntactic) {
		if errors.Is(syntactic.Err, jsontext.ErrDuplicateName) {
			return &bodyError{detail: fmt.Sprintf("The body has a member twice, at byte %d.", syntactic.ByteOffset)}
		}
		return &bodyError{detail: fmt.Sprintf("The body is not JSON from byte %d on.", syntactic.ByteOffset)}
	}
	return &bodyError{detail: "The body is not one JSON value."}
}

// unknownMember names the members that an object may have, and the one that may be meant.
func unknownMember(e *json.SemanticError) *bodyError {
	var names []string
	if e.GoType != nil && e.GoType.Kind() == reflect.Struct {
		for field := range e.GoType.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			names = append(names, name)
		}
	}
	meant := ""
	if near := nearest.Name(e.JSONPointer.LastToken(), names); near != "" {
		meant = fmt.Sprintf(" (did you mean %s?)", near)
	}
	return &bodyError{detail: fmt.Sprintf("The body has an unknown member at byte %d%s. Allowed are: %s.", e.ByteOffset, meant, strings.Join(names, ", "))}
}

func allowed(e *json.SemanticError) string {
	switch {
	case errors.Is(e.Err, errNull):
		return "not null; leave it out"
	case e.GoType == reflect.TypeFor[transport]():
		return allowedTransport
	case e.GoType != nil && e.GoType.Kind() == reflect.String:
		return "a string"
	case e.GoType != nil && e.GoType.Kind() == reflect.Bool:
		return "true or false"
	default:
		return "an object"
	}
}
