package doctor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"sort"
	"strconv"
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
	if !slices.ContainsFunc(c.managers, func(m *manager) bool { return len(m.leads()) > 0 }) {
		return nil, fmt.Errorf("%w: no HTTP connection manager in it leads to a cluster", ErrNotPatched)
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
	p := &patch{examination: e, text: string(text), eol: "\n", edits: map[int]edit{}, begins: map[*yaml.Node]int{}, changed: map[string]bool{}}
	p.lines = append(p.lines, 0)
	for i := range p.text {
		if p.text[i] == '\n' {
			p.lines = append(p.lines, i+1)
		}
	}
	if strings.Contains(p.text, "\r\n") {
		p.eol = "\r\n"
	}
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
	if err := p.proven(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotPatched, err)
	}
	return []byte(p.result(p.offsets())), nil
}

// otherBreak are the line breaks of YAML 1.1 but LF. A parser counts lines by them, and a patch would then
// edit the wrong place.
var otherBreak = regexp.MustCompile("\r(?:[^\n]|$)|[\u0085\u2028\u2029]")

// depthMax bounds how deep what is in each other is compared: a part may contain itself.
const depthMax = 500

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
	lines  []int              // the offset at which each begins
	eol    string             // how they end
	edits  map[int]edit       // by the offset at which they begin
	begins map[*yaml.Node]int // where elements were put before those of a list
	// changed are the paths of what was changed: of mappings and lists that got more, and of scalars.
	changed map[string]bool
	faults  []error
}

// edit takes the place of some bytes: of none, where it inserts.
type edit struct {
	length int
	text   string
}

// refusef says why the file cannot be patched, once where an alias leads to one place twice.
func (p *patch) refusef(line int, format string, args ...any) {
	fault := fmt.Errorf("line %d: "+format, append([]any{line}, args...)...)
	if !slices.ContainsFunc(p.faults, func(had error) bool { return had.Error() == fault.Error() }) {
		p.faults = append(p.faults, fault)
	}
}

func (p *patch) offsets() []int { return slices.Sorted(maps.Keys(p.edits)) }

// result is the text with some of the edits.
func (p *patch) result(offsets []int) string {
	var b strings.Builder
	at := 0
	for _, offset := range offsets {
		b.WriteString(p.text[at:offset])
		b.WriteString(strings.ReplaceAll(p.edits[offset].text, "\n", p.eol))
		at = offset + p.edits[offset].length
	}
	b.WriteString(p.text[at:])
	return b.String()
}

// proven reads what the edits make of the file. YAML has more ways to write a thing than an editor of
// lines knows: a file that comes out broken, or with a change that was not meant, is left as it was.
func (p *patch) proven() error {
	differs := func(offsets []int) string {
		before := (&document{root: p.doc.root, size: p.doc.size}).top()
		d, err := readDocument([]byte(p.result(offsets)))
		if err != nil {
			return "what belongs here cannot be put in; write the part around it in a plainer way, such as without explicit keys (?)"
		}
		if at := p.kept(before, d.top(), 0); at.node != nil {
			return fmt.Sprintf("what belongs here would also change line %d; write that without an alias", at.line())
		}
		if before.doc.visits > before.doc.visitsMax() {
			return errTooLarge.Error()
		}
		return ""
	}
	all := p.offsets()
	if differs(all) == "" {
		return nil
	}
	n := sort.Search(len(all)-1, func(n int) bool { return differs(all[:n+1]) != "" }) // with which of them?
	return fmt.Errorf("line %d: %s", strings.Count(p.text[:all[n]], "\n")+1, differs(all[:n+1]))
}

// kept finds what is no longer as it was, though it was not to be changed.
func (p *patch) kept(before, after value, depth int) (lost value) {
	old, grown := before.node, p.changed[before.path]
	switch {
	case old == nil:
		return value{}
	case after.node == nil || old.Kind != after.node.Kind || depth > depthMax:
		return before
	case old.Kind == yaml.ScalarNode && (grown || old.Value == after.node.Value && old.Tag == after.node.Tag):
		return value{}
	case old.Kind == yaml.ScalarNode, !grown && len(old.Content) != len(after.node.Content):
		return before
	}
	keys, values := before.entries()
	for i, key := range keys {
		if lost := p.kept(values[i], after.entry(key), depth+1); lost.node != nil {
			return lost
		}
	}
	rest := after.items()
	for _, item := range before.items() {
		for lost = item; lost.node != nil; rest = rest[1:] { // elements were put in before it
			if len(rest) == 0 {
				return lost
			}
			lost = p.kept(item, rest[0], depth+1)
		}
	}
	return value{}
}

// offset is where a node begins. yaml counts columns in characters.
func (p *patch) offset(line, column int) int {
	at := p.lines[min(line, len(p.lines))-1]
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
	p.changed[v.path] = true
	if v.node.Kind != yaml.ScalarNode {
		p.refusef(v.line(), "write it as one value, such as %s", text)
		return
	}
	raw, at := v.node.Value, p.offset(v.node.Line, v.node.Column)
	if v.node.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		at++
	}
	if !strings.HasPrefix(p.text[at:], raw) {
		p.refusef(v.node.Line, "write the value %q without a tag, an anchor or an escape", raw)
		return
	}
	p.edits[at] = edit{len(raw), text}
}

// lacks says whether a field is missing. Where its value is null it is missing for Envoy, but its key is there.
func (p *patch) lacks(v value, name string) bool {
	f := v.field(name)
	if f.node != nil && !f.exists() {
		p.refusef(f.line(), "give %s a value, or delete it", name)
		return false
	}
	return f.node == nil
}

// flow says whether a node is written with brackets, as all of JSON is.
func flow(n *yaml.Node) bool { return n.Style&yaml.FlowStyle != 0 }

// afterLine is the offset of the line after a line.
func (p *patch) afterLine(line int) int {
	if line < len(p.lines) {
		return p.lines[line]
	}
	if !strings.HasSuffix(p.text, p.eol) {
		p.text += p.eol // the last line has an end from now on
	}
	return len(p.text)
}

// inside puts fields into a mapping: lines of YAML, without indentation.
func (p *patch) inside(v value, lines string) {
	p.changed[v.path] = true
	n := v.node
	switch {
	case n.Kind != yaml.MappingNode:
		p.refusef(v.line(), "there is no mapping here")
	case flow(n):
		p.bracket(n, "{", inline(lines))
	case p.oneLine(n.Content[0], n.Content[1]): // behind it, so that comments stay with what they are about
		p.insert(p.afterLine(n.Content[0].Line), indentedBy(p.indent(n), lines))
	case v.lineOf > 0 && v.lineOf < n.Line:
		p.insert(p.afterLine(v.lineOf), indentedBy(p.indent(n), lines))
	default:
		p.refusef(n.Line, "put an entry of one line first, such as a name")
	}
}

// indent is the indentation of a mapping's fields: of the node itself it would be that of an anchor.
func (*patch) indent(mapping *yaml.Node) string {
	return strings.Repeat(" ", mapping.Content[0].Column-1)
}

// oneLine says whether a key and its value are on one line, whole: a text may go on below.
func (p *patch) oneLine(key, n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode || n.Line != key.Line || strings.Contains(n.Value, "\n") {
		return false
	}
	text := p.text[p.offset(n.Line, n.Column):]
	switch n.Style {
	case yaml.DoubleQuotedStyle:
		return strings.HasPrefix(text, `"`+n.Value+`"`)
	case yaml.SingleQuotedStyle:
		return strings.HasPrefix(text, "'"+n.Value+"'")
	default:
		return n.Style == 0 && strings.HasPrefix(text, n.Value)
	}
}

// first puts elements before those of a list. The value is that of a key.
func (p *patch) first(v value, lines string) {
	p.changed[v.path] = true
	n := v.node
	switch {
	case n.Kind != yaml.SequenceNode:
		p.refusef(v.line(), "there is no list here")
		return
	case flow(n):
		p.bracket(n, "[", inline(lines))
		return
	}
	at, again := p.begins[n]
	if !again {
		at = p.beginning(n.Content[0])
		if v.lineOf < n.Content[0].Line { // not by an alias, which is behind it
			at = p.afterLine(v.lineOf)
		}
		p.begins[n] = at
	}
	p.insert(at, indentedBy(p.dash(n), lines))
}

// dash is what is before the dashes of a list.
func (p *patch) dash(list *yaml.Node) string {
	line := p.line(list.Content[0].Line)
	return line[:len(line)-len(strings.TrimLeft(line, " "))]
}

// beginning is the offset of the line where an element of a list begins, with the comment that is about it.
func (p *patch) beginning(n *yaml.Node) int {
	line := n.Line
	if !strings.HasPrefix(strings.TrimLeft(p.line(line), " "), "-") {
		p.refusef(line, "write the first field of the element on the line of its dash")
	}
	head := n.HeadComment
	if head == "" && len(n.Content) > 0 {
		head = n.Content[0].HeadComment
	}
	// As many lines as the comment has: before it may be a text whose lines begin with #, too.
	for range strings.Count(head, "#") {
		if line > 1 && strings.HasPrefix(strings.TrimLeft(p.line(line-1), " "), "#") {
			line--
		}
	}
	return p.offset(line, 1)
}

// before puts elements before one of a list.
func (p *patch) before(list value, i int, lines string) {
	p.changed[list.path] = true
	n := list.node.Content[i] // not what it is an alias of: that may be in another list
	switch {
	case i == 0:
		p.first(list, lines)
	case flow(list.node):
		text := inline(lines)
		p.insert(p.offset(n.Line, n.Column), text[1:len(text)-1]+", ")
	default:
		p.insert(p.beginning(n), indentedBy(p.dash(list.node), lines))
	}
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
	had := p.edits[at].text
	switch {
	case len(n.Content) > 0:
		text += ", "
	case had != "" && !strings.Contains(had, text):
		text = ", " + text
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
	if list.node.Kind != yaml.SequenceNode {
		return fmt.Errorf("%w: static_resources.clusters is no list", ErrNotPatched)
	}
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
		if len(m.checks) == 0 || !slices.ContainsFunc(u.filters, func(f filter) bool { return f.kind == checkType }) {
			p.refusef(u.at.line(), "upgrades to %s have filters of their own; delete them, so that the upgrade has those of http_filters", u.kind)
		}
	}
	p.settings(m)
	p.filters(m)
	for _, h := range m.hosts {
		if !p.lacksAuth(h) {
			continue
		}
		for _, r := range h.routes {
			if p.ownsAuth(r) {
				p.refusef(r.config.line(), "the route %s is yours, and %s is to lead to sessiongate; set paths.auth to another path, or take the route away", r.name(), p.authPath)
			}
		}
		p.first(h.config.field("routes"), p.authRoutes(m))
	}
}

// ownsAuth says whether a route is about the auth path, or a path below it: behind ours it would get nothing.
func (p *patch) ownsAuth(r *route) bool {
	match := r.config.field("match")
	for _, field := range []string{"path", "prefix", "path_separated_prefix"} {
		if under(match.field(field).text(), p.authPath) {
			return true
		}
	}
	below := slices.ContainsFunc([]string{p.authPath, p.authPath + "/any", p.authPath + refreshPath}, r.match.takes)
	return match.field("safe_regex").exists() && below && !r.match.takes("/any")
}

// free gives the filter of a block a name of its own, where the connection manager has a filter of that name, or a
// route has changes of headers ready for one: what a route says of a filter is for all that have the name.
func (m *manager) free(block string) string {
	_, name, _ := strings.Cut(block, "- name: ")
	name, _, _ = strings.Cut(name, "\n")
	taken := slices.ContainsFunc(m.filters, func(f filter) bool { return f.name == name })
	taken = taken || strings.HasSuffix(name, ".header_mutation") && slices.ContainsFunc(m.leads(), func(l lead) bool {
		_, _, packed := l.perFilter(name)
		return packed.exists()
	})
	if taken {
		return strings.Replace(block, "- name: "+name, "- name: "+ownName(name), 1)
	}
	return block
}

func ownName(filter string) string {
	return "sessiongate." + filter[strings.LastIndexByte(filter, '.')+1:]
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
	switch {
	case len(m.checks) > 0:
		block = strings.ReplaceAll(block, name+":", quoted(m.filters[m.checks[0]].name)+":")
	case m.free("- name: "+name) != "- name: "+name:
		block = strings.ReplaceAll(block, name+":", ownName(name)+":")
	}
	return strings.Replace(block, "path_separated_prefix: /auth", "path_separated_prefix: "+p.authPath, 1)
}

// weaker are the settings of a connection manager that a file may have, and that must not be weaker.
var weaker = []struct {
	name, value string
	good        []string // besides what is true
}{
	{"use_remote_address", "true", nil},
	{"normalize_path", "true", nil},
	{"merge_slashes", "true", nil},
	{"path_with_escaped_slashes_action", "REJECT_REQUEST", []string{"REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD", "2", "3", "4"}},
}

// settings puts in the settings of a connection manager that are missing.
func (p *patch) settings(m *manager) {
	block := standalone.Block("connection-manager")
	block = strings.Replace(block, ` &unanswered`, "", 1)
	block = strings.ReplaceAll(block, "try_again", "sessiongate_try_again") // no anchor of the file's own
	block = strings.Replace(block, `regex: "/auth(`, "regex: "+strings.TrimSuffix(quoted(regexp.QuoteMeta(p.authPath)), `"`)+"(", 1)
	var missing strings.Builder
	// Envoy refuses use_remote_address beside these. Which of the two is right, the doctor asks (D11).
	detects := m.config.field("original_ip_detection_extensions").exists()
	left := func(name string) bool { return detects && name == "use_remote_address" }
	for _, part := range fields(block) {
		if name := fieldName(part); !left(name) && p.lacks(m.config, name) {
			missing.WriteString(part)
		}
	}
	if missing.Len() > 0 {
		p.inside(m.config, missing.String())
	}
	for _, setting := range weaker {
		if v := m.config.field(setting.name); v.exists() && !v.isTrue() && !v.is(setting.good...) && !left(setting.name) {
			p.replace(v, setting.value)
		}
	}
	options := m.config.field("common_http_protocol_options")
	if !options.exists() {
		return
	}
	var lines strings.Builder
	for _, line := range []string{"headers_with_underscores_action: REJECT_REQUEST", "max_stream_duration: 3600s", "max_headers_count: 500"} {
		if p.lacks(options, fieldName(line)) {
			lines.WriteString(line + "\n")
		}
	}
	if lines.Len() > 0 {
		p.inside(options, lines.String())
	}
	if v := options.field("headers_with_underscores_action"); v.exists() && !v.is("REJECT_REQUEST", "DROP_HEADER", "1", "2") {
		p.replace(v, "REJECT_REQUEST")
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
		p.refusef(m.config.line(), "the connection manager has no http_filters")
		return
	}
	blocks := fields(standalone.Block("filters")) // each with the comment before it
	claims, room, check := m.free(blocks[0]), m.free(blocks[2]), m.free(blocks[3])
	before := m.mutations(m.firstCheck())
	if !removes(before, identity[0]) {
		p.first(list, claims)
	}
	if len(m.checks) > 0 {
		if !slices.ContainsFunc(m.filters, func(f filter) bool { return f.config.field("rules", "policies", "header_room").exists() }) {
			p.before(list, m.checks[0], room)
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
		p.refusef(list.line(), "cors is the last filter")
		return
	}
	if behind == 0 {
		p.first(list, room)
		p.first(list, check)
		return
	}
	p.before(list, behind, room)
	p.before(list, behind, check)
}

// mend gives a check that is there what it lacks.
func (p *patch) mend(f filter, block string) {
	_, config, _ := strings.Cut(block, "typed_config:\n")
	var missing strings.Builder
	for _, part := range fields(dedented(config)) {
		name := fieldName(part)
		if name != `"@type"` && name != "grpc_service" && p.lacks(f.config, name) {
			missing.WriteString(part)
		}
	}
	if missing.Len() > 0 {
		p.inside(f.config, missing.String())
	}
	for name, good := range map[string]bool{
		"failure_mode_allow": false, "clear_route_cache": false, "encode_raw_headers": true, "validate_mutations": true,
	} {
		if v := f.config.field(name); v.exists() && v.isTrue() != good {
			p.replace(v, strconv.FormatBool(good))
		}
	}
	if v := f.config.field("status_on_error", "code"); v.exists() && !v.is("ServiceUnavailable", "503") {
		p.replace(v, "ServiceUnavailable")
	}
	service := f.config.field("grpc_service")
	if v := service.field("timeout"); service.exists() && p.lacks(service, "timeout") {
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
