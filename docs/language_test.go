package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// former are words that the project gave up, each with what to write instead. docs/glossary.md has
// the words that are in use.
var former = []struct{ pattern, instead string }{
	{`\bErrOver\b`, "ErrSessionEnded"},
	{`\bsession_over\b|\bover(Code|Text|Problem)\b`, "session_ended, and ended in names"},
	{`\.(Succeed|Confirm)\(|\bfunc \([^)]*\) (Succeed|Confirm)\(`, "Reissue, CheckStore"},
	{`answer=\\?"over\b`, `answer="ended"`},
	{`(?i)\bsessions?( that)?('s| is| are| was| were| be| being)( not)?( yet)? over\b`, "the session has ended"},
	{`(?i)\bhand(s|ed|ing)?[ -]outs?\b|hand_outs?\b|HandOut|HandedAt`, "issue, issues, issued"},
	{`(?i)\bhand(s|ed|ing)? (a|an|it|the|them|its|one|tokens?)( \w+)? out\b`, "issue"},
	{`(?i)\bline of (refresh )?tokens\b|\b(left|leaves?|leaving|falls off|moves?|moved|skips?|skipped) the line\b|\bline (it|that it) left\b|\b(session's|where its) line\b|\bline's token\b|\blineState\b`, "token chain; a retired token that is reused"},
	{`\btype Mark\b|\.mark\(\)|\bfunc mark\(|\) mark\(\) |\bsessions\.Mark\b`, "TokenHash, hash()"},
	{`(?i)\b(lost|zero|tokens?'s?|child's) marks?\b|\bmarks? of (a|an|the|its|their|each|both) (\w+ )?tokens?\b`, "token hash"},
	{`\b(a|by|the) mark( of (the|its) |,| names| that)|, marks$|// marks$|\b(handles|nonces) and marks\b|\b(opened|own|parent|child)Mark\b`, "token hash"},
	{`(?i)\bdr(aw|aws|ew|awn|awing)( (a|an|the|its|new|each|one|another|up)){0,2} (child(ren)?|nonces?|handles?|siblings?|tokens?|keys?)\b`, "generate"},
	{`(?i)\b(child(ren)?|nonces?|handles?|siblings?) (that )?(is|are|was|were|be) drawn\b|\bdrawn (child(ren)?|nonces?|handles?)\b`, "generated"},
	{`(?i)\bhorizons?\b|RaiseHorizon`, "feed retention"},
	{`(?i)\bwhole read(s|ing)?\b|\breadings? of the whole feed\b|feed_readings`, "full resync"},
	{`\bsession_contents\b|\bSessionContents\b`, "attributes (session_attributes)"},
	{`\bDeliverEvents\b|\bNoteChanges\b|\bEventsKeep\b`, "DeliverAudit, AuditChanges, AuditKeep"},
	{`\bauthz\.Verdict\b|\bsessionhttp\.Refusal\b`, "sessions.Denial"},
	{`(?i)\bwhoever\b`, "any client that, a caller that, an attacker that"},
	{`(?i)\bwhosoever\b|\bwhomever\b`, "any client that"},
	{`(?i)\banew\b`, "again, newly"},
	{`\b[Ss]omebody\b`, "a user, another process"},
	{`\b[Nn]obody\b`, "no one, no session, no client"},
	{`(?i)\bstrangers?\b`, "a client, an attacker"},
	{`(?i)\b(he|his|him|himself)\b`, "the attacker, the user, they"},
	{`(?i)\bof which\b`, "a second sentence"},
}

// allowed are the places where a former word is right: a file, what the line there contains, and why.
var allowed = []struct{ file, contains, why string }{
	{"docs/language_test.go", "", "it lists the words"},
	{"CHANGELOG.md", "", "it tells of renamings"},
	{"sessions/postgres/migrations/0000[123]_*.sql", "", "a migration is never edited"},
	{"sessions/postgres/migrations/00004_*.sql", "session_contents", "the view that the former version reads"},
	{"sessions/postgres/migrations/00004_*.sql", "hand_outs", "the column of the former version"},
	{"sessions/postgres/migrations/00004_*.sql", "horizon", "the table and the view of the former version"},
	{"sessions/postgres/names_test.go", "horizon", "the table of the former version"},
	{"internal/bench/startmigrations.go", "session_contents", "the first schema, from which it migrates"},
	{"internal/bench/startmigrations.go", "hand_outs", "the first schema, from which it migrates"},
	{"internal/cluster/owner.go", `"nobody"`, "the unprivileged user of Unix"},
	{"internal/cluster/owner.go", "nor nobody", "the unprivileged user of Unix"},
}

// skipped are folders without a text of ours, and copies that other tests make.
var (
	skipped = []string{".git", ".cache", "node_modules", "bin", ".next"}
	copies  = []string{"envoy/testdata/nextjs/sessiongate.js", "envoy/testdata/vite/src/sessiongate.js"}
)

// TestFormerWords keeps the project's texts and names to one language: a word that was replaced does
// not come back.
func TestFormerWords(t *testing.T) {
	t.Parallel()
	patterns := make([]*regexp.Regexp, len(former))
	for i, word := range former {
		patterns[i] = regexp.MustCompile(word.pattern)
	}
	used := make([]bool, len(allowed))
	files := 0
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		name := filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator)))
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (slices.Contains(skipped, entry.Name()) || strings.HasPrefix(entry.Name(), "dist")):
			return fs.SkipDir
		case entry.IsDir() || !isText(name) || slices.Contains(copies, name):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		number := 0
		for line := range strings.Lines(string(text)) {
			number++
			for i, pattern := range patterns {
				word := pattern.FindString(line)
				if word == "" || isAllowed(name, line, used) {
					continue
				}
				t.Errorf("%s:%d: not %q, but: %s", name, number, word, former[i].instead)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 200 {
		t.Errorf("only %d files were read", files)
	}
	for i, place := range allowed {
		if !used[i] {
			t.Errorf("%s needs no exemption for %q any more", place.file, place.contains)
		}
	}
}

// isText tells which files people write.
func isText(name string) bool {
	base := filepath.Base(name)
	switch filepath.Ext(base) {
	case ".go", ".sql", ".md", ".yaml", ".yml", ".js", ".mjs", ".jsx", ".ts", ".html", ".css", ".sh":
		return true
	}
	return base == "Makefile" || base == "Dockerfile" || name == ".ci/run"
}

func isAllowed(name, line string, used []bool) bool {
	for i, place := range allowed {
		if ok, err := filepath.Match(place.file, name); err != nil {
			panic(fmt.Sprintf("the exemption of %s: %v", place.file, err))
		} else if ok && strings.Contains(line, place.contains) {
			used[i] = true
			return true
		}
	}
	return false
}

// Each pattern finds the word that it is for.
func TestFormerWordsAreFound(t *testing.T) {
	t.Parallel()
	for text, found := range map[string]bool{
		"return ErrOver": true, `code="session_over"`: true, "the session is over": true, "its sessions were over": true, "over HTTP, the session is overdue": false,
		"tokens are handed out": true, "a hand-out": true, "HandOutsMax": true, "hands a child out": true, "handed over": false,
		"the line of refresh tokens": true, "a token that left the line": true, "a line of the log": false,
		"func (t Token) mark() Mark": true, "the token's mark": true, "a mark of the refresh token": true, "a question mark": false, "the mark of its parent": true, "openedMark": true, "marks an endpoint": false, "the session's line": true, `"sessiongate mark v1"`: false,
		"draws a new child": true, "a nonce was drawn": true, "draw a picture": false, "the horizon": true, "read anew": true, "the whole reading": true,
		"Whoever asks": true, "somebody": true, "Nobody": true, "http.NoBody": false, "a stranger": true, "stranger": true, "strange": false,
		"what he has": true, "His token": true, "for him": true, "the header": false, "this": false, "the keys, of which one": true,
	} {
		got := slices.ContainsFunc(former, func(word struct{ pattern, instead string }) bool {
			return regexp.MustCompile(word.pattern).MatchString(text)
		})
		if got != found {
			t.Errorf("%q: found %t, want %t", text, got, found)
		}
	}
}
