package doctor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/sessiongate/sessiongate/envoy/guides/standalone"
)

// Addresses are where sessiongate listens, for Envoy: HOST:PORT.
type Addresses struct{ Authz, Public string }

// ErrNotPatched is returned for a file that cannot be patched as it is.
var ErrNotPatched = errors.New("it cannot be patched")

// Patch puts what docs/guides/envoy.md adds into a bootstrap file, wherever it is missing, and replaces
// the few values that are weaker than there. All else stays as it was, byte by byte. What it does not
// mend, [Examine] finds in the result. Patching a patched file changes nothing.
func Patch(text []byte, o Options, a Addresses) ([]byte, error) {
	if at := otherBreak.FindIndex(text); at != nil {
		return nil, fmt.Errorf("%w: line %d has a line break that is neither LF nor CRLF; replace it", ErrNotPatched, bytes.Count(text[:at[0]], []byte("\n"))+1)
	}
	d, err := readDocument(text)
	if err != nil {
		return nil, fmt.Errorf("reading Envoy's configuration: %w", err)
	}
	c, err := view(d)
	if err != nil {
		return nil, fmt.Errorf("reading Envoy's configuration: %w", err)
	}
	if d.top().field("configs").exists() {
		return nil, fmt.Errorf("%w: it is a config dump, which Envoy does not read; give the file", ErrNotPatched)
	}
	if len(c.unseen) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrNotPatched, strings.Join(c.unseen, "; "))
	}
	if err := c.choose(o.Cluster); err != nil {
		if _, several := errors.AsType[*AmbiguousError](err); !several {
			return nil, fmt.Errorf("looking for sessiongate's check: %w", err)
		}
		// Others are asked, and sessiongate is not yet.
	} else if o.Cluster == "" && c.check != "" && !c.saysSessiongate(c.check) {
		c.forget()
	}
	e := &examination{configuration: c, authPath: o.AuthPath}
	if e.authPath == "" {
		e.authPath = "/auth"
	}
	p := &patch{examination: e, text: string(text), edits: map[int]edit{}}
	if err := p.clusters(a); err != nil {
		return nil, err
	}
	for _, m := range c.managers {
		if len(m.leads()) > 0 {
			p.manager(m)
		}
	}
	if len(p.faults) > 0 {
		return nil, fmt.Errorf("%w: %w", ErrNotPatched, errors.Join(p.faults...))
	}
	return []byte(p.result()), nil
}

// otherBreak are the line breaks of YAML 1.1 but LF. A parser counts lines by them, and a patch would then
// edit the wrong place.
var otherBreak = regexp.MustCompile("\r(?:[^\n]|$)|[\u0085\u2028\u2029]")

// forget takes back the choice of a check that is another system's.
func (c *configuration) forget() {
	c.check = ""
	for _, m := range c.managers {
		m.checks = nil
		clear(m.known)
	}
}

// patch collects edits of a text. Nodes that are used by several aliases are edited once.
type patch struct {
	*examination

	text   string
	lines  []int        // where each begins
	edits  map[int]edit // by the offset at which they begin
	faults []error
}

// edit takes the place of some bytes: of none, where it inserts.
type edit struct {
	length int
	text   string
}

func (p *patch) result() string {
	var b strings.Builder
	at := 0
	offsets := make([]int, 0, len(p.edits))
	for offset := range p.edits {
		offsets = append(offsets, offset)
	}
	slices.Sort(offsets)
	for _, offset := range offsets {
		b.WriteString(p.text[at:offset])
		b.WriteString(p.edits[offset].text)
		at = offset + p.edits[offset].length
	}
	b.WriteString(p.text[at:])
	return b.String()
}

// offset is where a node begins. yaml counts columns in characters.
func (p *patch) offset(line, column int) int {
	if p.lines == nil {
		p.lines = []int{0}
		for i := range len(p.text) {
			if p.text[i] == '\n' {
				p.lines = append(p.lines, i+1)
			}
		}
	}
	at := p.lines[line-1]
	for range column - 1 {
		_, size := utf8.DecodeRuneInString(p.text[at:])
		at += size
	}
	return at
}

// insert puts text at an offset, behind what was put there before. The same text is put there once.
func (p *patch) insert(at int, text string) {
	if had := p.edits[at]; !strings.Contains(had.text, text) {
		p.edits[at] = edit{had.length, had.text + text}
	}
}

// replace gives a scalar another value.
func (p *patch) replace(v value, text string) {
	raw, at := v.node.Value, p.offset(v.node.Line, v.node.Column)
	if v.node.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		at++
	}
	if !strings.HasPrefix(p.text[at:], raw) {
		p.faults = append(p.faults, fmt.Errorf("line %d: write the value %q without an anchor or an escape", v.node.Line, raw))
		return
	}
	p.edits[at] = edit{len(raw), text}
}

// flow says whether a node is written with brackets, as all of JSON is.
func flow(n *yaml.Node) bool { return n.Style&yaml.FlowStyle != 0 }

// afterLine is the offset of the line after a line.
func (p *patch) afterLine(line int) int {
	at := p.offset(line, 1)
	end := strings.IndexByte(p.text[at:], '\n')
	if end < 0 {
		p.text += "\n" // the last line has an end from now on
		return len(p.text)
	}
	return at + end + 1
}

// inside puts fields into a mapping: lines of YAML, without indentation.
func (p *patch) inside(v value, lines string) {
	n := v.node
	if flow(n) {
		p.bracket(n, "{", inline(lines))
		return
	}
	indent := strings.Repeat(" ", n.Content[0].Column-1) // of the node itself it would be that of an anchor
	// Behind a first entry that is one line, so that comments stay with what they are about.
	if first := n.Content[1]; first.Kind == yaml.ScalarNode && first.Line == n.Content[0].Line && first.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		p.insert(p.afterLine(first.Line), indentedBy(indent, lines))
		return
	}
	if v.lineOf > 0 && v.lineOf < n.Line {
		p.insert(p.afterLine(v.lineOf), indentedBy(indent, lines))
		return
	}
	p.faults = append(p.faults, fmt.Errorf("line %d: put an entry of one line first, such as a name", n.Line))
}

// first puts elements before those of a list. The value is that of a key.
func (p *patch) first(v value, lines string) {
	n := v.node
	if flow(n) {
		p.bracket(n, "[", inline(lines))
		return
	}
	p.insert(p.afterLine(v.lineOf), indentedBy(p.dash(n), lines))
}

// dash is what is before the dashes of a list.
func (p *patch) dash(list *yaml.Node) string {
	line := p.line(list.Content[0].Line)
	return line[:len(line)-len(strings.TrimLeft(line, " "))]
}

// before puts elements before one of a list.
func (p *patch) before(list value, item value, lines string) {
	if items := list.items(); len(items) > 0 && items[0].node == item.node {
		p.first(list, lines)
		return
	}
	n := item.node
	if flow(list.node) {
		text := inline(lines)
		p.insert(p.offset(n.Line, n.Column), text[1:len(text)-1]+", ")
		return
	}
	// Before the comment that is about it.
	line := n.Line
	for line > 1 && strings.HasPrefix(strings.TrimLeft(p.line(line-1), " "), "#") {
		line--
	}
	p.insert(p.offset(line, 1), indentedBy(p.dash(list.node), lines))
}

func (p *patch) line(number int) string {
	text, _, _ := strings.Cut(p.text[p.offset(number, 1):], "\n")
	return text
}

// bracket puts the inside of a text with brackets behind the opening one of a node.
func (p *patch) bracket(n *yaml.Node, opening, text string) {
	at := p.offset(n.Line, n.Column)
	at += strings.Index(p.text[at:], opening) + 1 // behind an anchor
	text = text[1 : len(text)-1]
	if len(n.Content) > 0 {
		text += ", "
	}
	p.insert(at, text)
}

// inline writes YAML as JSON, which is flow style, too.
func inline(lines string) string {
	var tree yaml.Node
	if err := yaml.Unmarshal([]byte(lines), &tree); err != nil {
		panic(err) // a block of ours
	}
	return inlineNode(tree.Content[0])
}

// inlineNode keeps the order of fields, which a map would not.
func inlineNode(n *yaml.Node) string {
	var parts []string
	switch n.Kind {
	case yaml.AliasNode:
		return inlineNode(n.Alias)
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			parts = append(parts, quoted(n.Content[i].Value)+": "+inlineNode(n.Content[i+1]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case yaml.SequenceNode:
		for _, item := range n.Content {
			parts = append(parts, inlineNode(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		if n.Tag == "!!str" {
			return quoted(n.Value)
		}
		return n.Value
	}
}

func quoted(text string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) //nolint:errchkjson // a text, into memory
	return strings.TrimSuffix(b.String(), "\n")
}

func indentedBy(indent, lines string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSuffix(lines, "\n") + "\n") {
		if strings.TrimSpace(line) != "" {
			b.WriteString(indent)
		}
		b.WriteString(line)
	}
	return b.String()
}

// clusters puts in the two clusters of sessiongate.
func (p *patch) clusters(a Addresses) error {
	list := p.doc.top().field("static_resources", "clusters")
	if !list.exists() {
		return fmt.Errorf("%w: it has no static_resources.clusters", ErrNotPatched)
	}
	block := standalone.Block("clusters")
	public := strings.Index(block, "\n# Refresh, sign-out") + 1
	lacks := slices.ContainsFunc(p.managers, func(m *manager) bool { return slices.ContainsFunc(m.hosts, p.lacksAuth) })
	for _, cluster := range []struct {
		name, block, address, port string
		needed                     bool
	}{
		{"sessiongate_authz", block[:public-1], a.Authz, "9001", p.configuration.check == ""},
		{"sessiongate_public", block[public:], a.Public, "9002", lacks},
	} {
		if _, there := p.configuration.clusters[cluster.name]; there || !cluster.needed {
			continue
		}
		if cluster.address != "" {
			host, port, err := net.SplitHostPort(cluster.address)
			if err != nil || host == "" || port == "" {
				return fmt.Errorf("%w: %q is no HOST:PORT", ErrNotPatched, cluster.address)
			}
			cluster.block = strings.Replace(cluster.block, "address: sessiongate, port_value: "+cluster.port+" } } } # CHANGE", "address: "+quoted(host)+", port_value: "+port+" } } }", 1)
		}
		p.first(list, cluster.block)
	}
	return nil
}

// manager puts the settings, the filters and the routes into a connection manager.
func (p *patch) manager(m *manager) {
	for _, u := range m.upgrades { // what is put into http_filters is not in these, and all is open to who asks for the upgrade
		if len(m.checks) == 0 {
			p.faults = append(p.faults, fmt.Errorf("line %d: upgrades to %s have filters of their own; delete them, so that the upgrade has those of http_filters", u.at.line(), u.kind))
		}
	}
	p.settings(m)
	p.filters(m)
	for _, h := range m.hosts {
		if !p.lacksAuth(h) {
			continue
		}
		p.first(h.config.field("routes"), p.authRoutes(m))
	}
}

// lacksAuth says whether a virtual host does not take the auth path to sessiongate.
func (p *patch) lacksAuth(h *host) bool {
	r := h.resolve(p.authPath + refreshPath)
	return len(h.leads()) > 0 && (r == nil || !slices.ContainsFunc(r.leads, func(l lead) bool { return p.saysSessiongate(l.cluster) }))
}

// authRoutes is the block without its anchor, which several virtual hosts would define again.
func (p *patch) authRoutes(m *manager) string {
	const name = "envoy.filters.http.ext_authz"
	block := standalone.Block("routes")
	block = strings.Replace(block, " &no_check\n", "\n", 1)
	block = strings.ReplaceAll(block, "*no_check", "{ \"@type\": type.googleapis.com/"+filterConfigType+", disabled: true }")
	if len(m.checks) > 0 {
		block = strings.ReplaceAll(block, name+":", quoted(m.filters[m.checks[0]].name)+":")
	}
	return strings.Replace(block, "path_separated_prefix: /auth", "path_separated_prefix: "+p.authPath, 1)
}

// weaker are the settings of a connection manager that a file may have, and that must not be weaker.
var weaker = []struct {
	name, value string
	good        []string
}{
	{"use_remote_address", "true", []string{"true"}},
	{"normalize_path", "true", []string{"true"}},
	{"merge_slashes", "true", []string{"true"}},
	{"path_with_escaped_slashes_action", "REJECT_REQUEST", []string{"REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"}},
}

// settings puts in the settings of a connection manager that are missing.
func (p *patch) settings(m *manager) {
	block := standalone.Block("connection-manager")
	block = strings.Replace(block, ` &unanswered`, "", 1)
	block = strings.ReplaceAll(block, "try_again", "sessiongate_try_again") // no anchor of the file's own
	block = strings.Replace(block, `regex: "/auth(`, "regex: "+strings.TrimSuffix(quoted(regexp.QuoteMeta(p.authPath)), `"`)+"(", 1)
	var missing strings.Builder
	for _, part := range fields(block) {
		if !m.config.field(fieldName(part)).exists() {
			missing.WriteString(part)
		}
	}
	if missing.Len() > 0 {
		p.inside(m.config, missing.String())
	}
	for _, setting := range weaker {
		if v := m.config.field(setting.name); v.exists() && !slices.Contains(setting.good, v.text()) {
			p.replace(v, setting.value)
		}
	}
	options := m.config.field("common_http_protocol_options")
	if !options.exists() {
		return
	}
	if v := options.field("headers_with_underscores_action"); !v.exists() {
		p.inside(options, "headers_with_underscores_action: REJECT_REQUEST")
	} else if !v.is("REJECT_REQUEST", "DROP_HEADER") {
		p.replace(v, "REJECT_REQUEST")
	}
	if v := options.field("max_stream_duration"); !v.exists() {
		p.inside(options, "max_stream_duration: 3600s")
	}
	if v := options.field("max_headers_count"); !v.exists() {
		p.inside(options, "max_headers_count: 500")
	}
}

// fields cuts a block into its top-level fields, each with the comment before it.
func fields(block string) (parts []string) {
	var part strings.Builder
	body := false // the field has begun
	for line := range strings.Lines(block) {
		top := line[0] != ' ' && line[0] != '\n'
		if top && body {
			parts = append(parts, part.String())
			part.Reset()
			body = false
		}
		body = body || top && line[0] != '#'
		part.WriteString(line)
	}
	return append(parts, part.String())
}

// fieldName is the name of the field that a part is about.
func fieldName(part string) string {
	for line := range strings.Lines(part) {
		if !strings.HasPrefix(line, "#") {
			name, _, _ := strings.Cut(line, ":")
			return name
		}
	}
	return ""
}

// filters puts in the filters that are missing, in the order of the guide.
func (p *patch) filters(m *manager) {
	list := m.config.field("http_filters")
	if !list.exists() || len(m.filters) == 0 {
		p.faults = append(p.faults, fmt.Errorf("line %d: the connection manager has no http_filters", m.config.line()))
		return
	}
	blocks := fields(standalone.Block("filters")) // each with the comment before it
	claims, room, check := blocks[0], blocks[2], blocks[3]
	before := m.mutations(m.firstCheck())
	if !removes(before, identity[0]) {
		p.first(list, claims)
	}
	if len(m.checks) > 0 {
		if !slices.ContainsFunc(m.filters, func(f filter) bool { return f.config.field("rules", "policies", "header_room").exists() }) {
			p.before(list, m.filters[m.checks[0]].entry, room)
		}
		for _, i := range m.checks {
			p.mend(m.filters[i], check)
		}
		return
	}
	// The check comes behind cors, where there is one, and before all that may be asked of its answer.
	behind := 0
	for i, f := range m.filters {
		if f.kind == corsType || f.kind == mutationType && removes(m.mutations(i+1), identity[0]) {
			behind = i + 1
		}
	}
	if behind == len(m.filters) {
		p.faults = append(p.faults, fmt.Errorf("line %d: cors is the last filter", list.line()))
		return
	}
	if behind == 0 {
		p.first(list, room)
		p.first(list, check)
		return
	}
	p.before(list, list.items()[behind], room)
	p.before(list, list.items()[behind], check)
}

// mend gives a check that is there what it lacks.
func (p *patch) mend(f filter, block string) {
	_, config, _ := strings.Cut(block, "typed_config:\n")
	var missing strings.Builder
	for _, part := range fields(dedented(config)) {
		name := fieldName(part)
		if name != `"@type"` && name != "grpc_service" && !f.config.field(name).exists() {
			missing.WriteString(part)
		}
	}
	if missing.Len() > 0 {
		p.inside(f.config, missing.String())
	}
	for name, good := range map[string]string{
		"failure_mode_allow": "false", "clear_route_cache": "false", "encode_raw_headers": "true", "validate_mutations": "true",
	} {
		if v := f.config.field(name); v.exists() && v.text() != good {
			p.replace(v, good)
		}
	}
	if v := f.config.field("status_on_error", "code"); v.exists() && !v.is("ServiceUnavailable", "503") {
		p.replace(v, "ServiceUnavailable")
	}
	service := f.config.field("grpc_service")
	if v := service.field("timeout"); !v.exists() && service.exists() {
		p.inside(service, "timeout: 1s")
	} else if v.exists() && v.duration(0) < checkTimeoutLeast {
		p.replace(v, "1s")
	}
}

// dedented takes away the indentation of the first line from all.
func dedented(block string) string {
	indent := block[:len(block)-len(strings.TrimLeft(block, " "))]
	var b strings.Builder
	for line := range strings.Lines(block) {
		b.WriteString(strings.TrimPrefix(line, indent))
	}
	return b.String()
}
