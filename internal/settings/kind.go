package settings

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Kind reads, describes and prints the values of one setting. It is bound to the field that
// it fills. Every kind has one strict text form, the same in the file and in the environment.
type Kind struct {
	Allowed string         // continues "allowed: "
	Tag     string         // the YAML type of its scalars; "" for any
	List    bool           // Set appends, and may be called any number of times
	Schema  map[string]any // JSON Schema of the value
	Reset   func()         // to the empty value
	Set     func(text string) bool
	Texts   func() []string // what Set would read back; exactly one unless List
	// Read takes the place of Set where a value is more than a scalar or a list of scalars.
	// In the environment it is YAML too.
	Read func(r *Reader, key string, value *yaml.Node)
}

// The YAML types (YAML 1.2 §10.3.2) of scalars.
const (
	TagText    = "!!str"
	TagInteger = "!!int"
	TagBoolean = "!!bool"
)

// Scalar makes a kind of one text.
func Scalar[T any](p *T, tag, allowed string, parse func(string) (T, bool), format func(T) string) Kind {
	return Kind{
		Allowed: allowed,
		Tag:     tag,
		Schema:  map[string]any{"type": "string"},
		Reset:   func() { *p = *new(T) },
		Set: func(text string) bool {
			v, ok := parse(text)
			if ok {
				*p = v
			}
			return ok
		},
		Texts: func() []string { return []string{format(*p)} },
	}
}

// Text takes what ok says yes to.
func Text[T ~string](p *T, allowed string, ok func(string) bool) Kind {
	k := Scalar(p, TagText, allowed,
		func(s string) (T, bool) { return T(s), ok(s) },
		func(v T) string { return string(v) })
	if !ok("") {
		k.Schema["minLength"] = 1
	}
	return k
}

// Optional makes a kind that also takes the empty text, for "not set".
func Optional(k Kind) Kind {
	set, reset := k.Set, k.Reset
	k.Allowed = "empty, or " + k.Allowed
	k.Set = func(text string) bool {
		if text == "" {
			reset()
			return true
		}
		return set(text)
	}
	delete(k.Schema, "minLength")
	return k
}

// List takes any number of items, none of them twice. In the environment a comma separates
// them, so none may contain one.
func List[T ~string](p *[]T, allowed string, ok func(string) bool) Kind {
	return Kind{
		Allowed: "a list (in the environment: separated by commas), without repetition, of " + allowed,
		Tag:     TagText,
		List:    true,
		Schema:  map[string]any{"type": "array", "uniqueItems": true, "items": map[string]any{"type": "string", "minLength": 1}},
		Reset:   func() { *p = nil },
		Set: func(text string) bool {
			if !ok(text) || strings.Contains(text, ",") || slices.Contains(*p, T(text)) {
				return false
			}
			*p = append(*p, T(text))
			return true
		},
		Texts: func() []string {
			texts := make([]string, len(*p))
			for i, v := range *p {
				texts[i] = string(v)
			}
			return texts
		},
	}
}

// OneOf takes one of the texts.
func OneOf(p *string, choices ...string) Kind { return Choice(p, choices, choices) }

// Choice takes one of the names, each for the value at its place.
func Choice[T comparable](p *T, names []string, values []T) Kind {
	k := Scalar(p, "", "one of "+strings.Join(names, ", "), // no tag: 401 and off are not text in every dialect of YAML
		func(s string) (v T, ok bool) {
			i := slices.Index(names, s)
			if i < 0 {
				return v, false
			}
			return values[i], true
		},
		func(v T) string {
			if i := slices.Index(values, v); i >= 0 {
				return names[i]
			}
			return ""
		})
	var enum []any
	for _, name := range names {
		enum = append(enum, name)
		if n, err := strconv.Atoi(name); err == nil {
			enum = append(enum, n)
		}
	}
	k.Schema = map[string]any{"enum": enum}
	return k
}

// Boolean takes true and false.
func Boolean(p *bool) Kind {
	k := Scalar(p, TagBoolean, "true or false",
		func(s string) (bool, bool) { return s == "true", s == "true" || s == "false" },
		strconv.FormatBool)
	k.Schema = map[string]any{"type": "boolean"}
	return k
}

type whole interface {
	~int | ~int32 | ~int64 | ~uint32
}

// Integer takes plain decimal digits: 012 is neither 12 nor 10 here.
func Integer[T whole](p *T, lowest, highest int) Kind {
	k := Scalar(p, TagInteger, fmt.Sprintf("a whole number from %d to %d", lowest, highest),
		func(s string) (T, bool) {
			n, err := strconv.Atoi(s)
			return T(n), err == nil && strconv.Itoa(n) == s && n >= lowest && n <= highest
		},
		func(n T) string { return strconv.FormatInt(int64(n), 10) })
	k.Schema = map[string]any{"type": "integer", "minimum": lowest, "maximum": highest}
	return k
}

// Duration takes whole numbers with units.
func Duration(p *time.Duration, lowest, highest time.Duration) Kind {
	k := Scalar(p, TagText,
		fmt.Sprintf("a duration from %s to %s, in whole d, h, m, s and ms, such as 1h30m", FormatDuration(lowest), FormatDuration(highest)),
		func(s string) (time.Duration, bool) {
			n, ok := parseUnits(s, durationUnits)
			return time.Duration(n), ok && time.Duration(n) >= lowest && time.Duration(n) <= highest
		},
		FormatDuration)
	k.Schema["pattern"], k.Schema["minLength"] = unitsPattern(durationUnits), 1
	return k
}

// Size is a number of bytes.
func Size[T whole](p *T, lowest, highest int) Kind {
	k := Scalar(p, TagText,
		fmt.Sprintf("a size from %s to %s, in whole MiB, KiB and B, such as 64KiB", FormatSize(lowest), FormatSize(highest)),
		func(s string) (T, bool) {
			n, ok := parseUnits(s, sizeUnits)
			return T(n), ok && n >= int64(lowest) && n <= int64(highest)
		},
		func(n T) string { return formatUnits(int64(n), sizeUnits) })
	k.Schema["pattern"], k.Schema["minLength"] = unitsPattern(sizeUnits), 1
	return k
}
