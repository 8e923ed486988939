package settings

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// oven is a configuration that no process has.
type oven struct {
	name     string
	code     Secret
	racks    int
	warmUp   time.Duration
	cavity   int64
	light    bool
	programs []string
	fan      fan
}

type fan uint8

func (o *oven) table() *Table {
	small := func(s string) bool { return len(s) < 20 && IsText(s) && s != "" }
	return &Table{Prefix: "OVEN_", Listing: "oven help", Settings: []Setting{
		{Key: "name", Doc: "What the display says.", Field: "Name", Kind: Text(&o.name, "a short text", small)},
		{Key: "code", Doc: "Unlocks the door.", Secret: true, Kind: Optional(Text(&o.code, "a short text", small))},
		{Key: "heat.racks", Doc: "How many `racks` there are.", Field: "Racks", Default: "3", Kind: Integer(&o.racks, 1, 5)},
		{Key: "heat.warm_up", Doc: "How long it warms up.", Field: "WarmUp", Reload: "at once", Kind: Duration(&o.warmUp, time.Second, time.Hour)},
		{Key: "heat.fan", Doc: "What the fan does.", Kind: Choice(&o.fan, []string{"off", "slow", "2"}, []fan{0, 1, 2})},
		{Key: "cavity", Doc: "Not a size.", Kind: Size(&o.cavity, 1, 1<<20)},
		{Key: "light", Doc: "Whether there is light.", Kind: Boolean(&o.light)},
		{Key: "programs", Doc: "What it can bake.", Kind: List(&o.programs, "short texts", small)},
	}}
}

func newOven() *oven {
	return &oven{name: "oven", warmUp: 5 * time.Minute, cavity: 1 << 10, programs: []string{"bread"}}
}

func TestParse(t *testing.T) {
	t.Parallel()
	o := newOven()
	r := o.table().Parse("oven.yaml", []byte("name: mine\nheat:\n  racks: 4\n  fan: 2\n"), []string{"OVEN_LIGHT=true", "OVEN_PROGRAMS=pie,cake", "OVEN_HEAT_RACKS=5", "OVEN_SERVICE_HOST=x"})
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	want := &oven{name: "mine", racks: 5, warmUp: 5 * time.Minute, cavity: 1 << 10, light: true, programs: []string{"pie", "cake"}, fan: 2}
	if diff := cmp.Diff(want, o, cmp.AllowUnexported(oven{})); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	origins := Origins{
		"name": {File: "oven.yaml", Line: 1}, "heat.fan": {File: "oven.yaml", Line: 4},
		"light": {Env: "OVEN_LIGHT"}, "programs": {Env: "OVEN_PROGRAMS"}, "heat.racks": {Env: "OVEN_HEAT_RACKS"},
	}
	if diff := cmp.Diff(origins, r.Origins); diff != "" {
		t.Errorf("origins (-want +got):\n%s", diff)
	}
}

// All faults come at once, each with its place, and the fields keep their defaults.
func TestFaults(t *testing.T) {
	t.Parallel()
	o := newOven()
	r := o.table().Parse("oven.yaml", []byte("nam: x\ncode: 5\nheat: {racks: 9, warm_up: 1m, racks: 2}\n"), []string{"OVEN_LIGTH=true", "OVEN_CAVITY=1"})
	r.BrokenFields([]string{"WarmUp", "Racks"}, "not told, for Racks is unsound")
	r.BrokenFields([]string{"WarmUp", "Name"}, "WarmUp longer than Name, for WarmUp's sake")
	r.BrokenFields([]string{"Unknown"}, "not told, for no setting fills it")
	r.Need(Faults{{Key: "heat.racks", Found: "not told", Allowed: "x"}, {Key: "light", Found: "no light", Allowed: "some"}})
	want := `light: found no light; allowed: some
oven.yaml:1: found the unknown key nam (did you mean name?); allowed: name, code, heat, cavity, light, programs
oven.yaml:2: code: found a number (not shown); allowed: empty, or a short text
oven.yaml:3: heat.racks: found the number 9; allowed: a whole number from 1 to 5
oven.yaml:3: heat.racks: found a second value (the first is in line 3); allowed: one value
oven.yaml:3: heat.warm_up: found heat.warm_up 1m, name oven; allowed: heat.warm_up longer than name, for WarmUp's sake
OVEN_CAVITY: cavity: found the text "1"; allowed: a size from 1B to 1MiB, in whole MiB, KiB and B, such as 64KiB
OVEN_LIGTH: found an unknown variable (did you mean OVEN_LIGHT?); allowed: the variables that ` + "`oven help`" + ` lists`
	if diff := cmp.Diff(want, r.Err().Error()); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	if o.racks != 3 || o.cavity != 1<<10 {
		t.Errorf("%d racks and %d bytes, want the defaults", o.racks, o.cavity)
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	o := newOven()
	r := o.table().Parse("oven.yaml", nil, []string{"OVEN_CODE=hunter2"})
	var b strings.Builder
	if err := o.table().Print(&b, r.Origins); err != nil {
		t.Fatal(err)
	}
	want := `name: "oven" # default
# code: [redacted] # OVEN_CODE

heat:
  racks: 3 # default
  warm_up: "5m" # default
  fan: off # default
cavity: "1KiB" # default
light: false # default
programs: ["bread"] # default
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("printed (-want +got):\n%s", diff)
	}
	again := newOven()
	if err := again.table().Parse("again.yaml", []byte(b.String()), nil).Err(); err != nil {
		t.Error(err)
	}
	again.code = o.code
	if diff := cmp.Diff(o, again, cmp.AllowUnexported(oven{})); diff != "" {
		t.Errorf("printed and read again (-first +second):\n%s", diff)
	}
	text, err := o.table().JSON()
	if err != nil || strings.Contains(string(text), "hunter2") || !strings.Contains(string(text), Redacted) {
		t.Errorf("JSON %s, %v", text, err)
	}
}

func TestReference(t *testing.T) {
	t.Parallel()
	page := newOven().table().Reference()
	want := "\n## `heat`\n\n### `heat.racks`\n\nHow many `racks` there are.\n\n- Default: `3`\n- Environment variable: `OVEN_HEAT_RACKS`\n" +
		"- Allowed: a whole number from 1 to 5\n- A change counts: at the next start\n"
	if !strings.Contains(page, want) {
		t.Errorf("no\n%s\nin\n%s", want, page)
	}
	if !strings.Contains(page, "A change counts: at once") || !strings.Contains(page, "**Secret**") || !strings.Contains(page, "Default: `bread`") {
		t.Error(page)
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 30) + "`a code span that stays whole` - not a list, " + strings.Repeat("x", 60) + " 12. no number, # no heading"
	wrapped := Wrap(long, "  ")
	if strings.Join(strings.Fields(wrapped), " ") != long {
		t.Errorf("changed to %s", wrapped)
	}
	for line := range strings.Lines(wrapped) {
		if len(strings.TrimRight(line, "\n")) > width || strings.Count(line, "`")%2 == 1 || block.MatchString(strings.Fields(line)[0]) {
			t.Errorf("line %q", line)
		}
	}
}

// What the reader takes the schema takes, and not what is of another type, out of range or unknown.
func TestJSONSchema(t *testing.T) {
	t.Parallel()
	text, err := newOven().table().JSONSchema("Oven")
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("oven.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("oven.json")
	if err != nil {
		t.Fatal(err)
	}
	for content, ok := range map[string]bool{
		"{}": true, "name: x": true, "code: ''": true, "heat: {racks: 5, warm_up: 1m30s, fan: 2}": true, "heat: {fan: off}": true, "programs: [a, b]": true, "cavity: 1KiB": true,
		"nam: x": false, "name: ''": false, "name: 5": false, "heat: {racks: 6}": false, "heat: {racks: '5'}": false, "heat: {rack: 5}": false, "heat: {warm_up: 5}": false,
		"heat: {warm_up: 1m1h}": false, "heat: {warm_up: ''}": false, "heat: {fan: fast}": false, "heat: {fan: false}": false, "programs: a": false, "programs: [a, a]": false, "light: 'true'": false, "cavity: 1k": false,
	} {
		var value any
		if err := yaml.Unmarshal([]byte(content), &value); err != nil {
			t.Fatal(err)
		}
		asJSON, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		instance, err := jsonschema.UnmarshalJSON(strings.NewReader(string(asJSON)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(instance); (err == nil) != ok {
			t.Errorf("%s: %v, want taken: %v", content, err, ok)
		}
	}
}
