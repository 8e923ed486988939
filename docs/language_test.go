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
// the words that are in use. A line is searched for the pattern where it contains one of the parts, in
// small letters: to search every line takes two minutes.
var former = []struct{ parts, pattern, instead string }{
	{"errover", `\bErrOver\b`, "ErrSessionEnded"},
	{"session_over,overcode,overtext,overproblem", `\bsession_over\b|\bover(Code|Text|Problem)\b`, "session_ended, and ended in names"},
	{"succeed,confirm", `\.(Succeed|Confirm)\(|\bfunc \([^)]*\) (Succeed|Confirm)\(`, "Reissue, CheckStore"},
	{"over", `answer=\\?"over\b`, `answer="ended"`},
	{" over", `(?i)\bsessions?( that)?('s| is| are| was| were| be| being)( not)?( yet)? over\b`, "the session has ended"},
	{"hand", `(?i)\bhand(s|ed|ing)?[ -]outs?\b|hand_outs?\b|HandOut|HandedAt`, "issue, issues, issued"},
	{"hand", `(?i)\bhand(s|ed|ing)? (a|an|it|the|them|its|one|tokens?)( \w+)? out\b`, "issue"},
	{"line", `(?i)\bline of (refresh )?tokens\b|\b(left|leaves?|leaving|falls off|moves?|moved|skips?|skipped) the line\b|\bline (it|that it) left\b|\b(session's|where its) line\b|\bline's token\b|\blineState\b`, "token chain; a retired token that is reused"},
	{"mark", `\btype Mark\b|\.mark\(\)|\bfunc mark\(|\) mark\(\) |\bsessions\.Mark\b`, "TokenHash, hash()"},
	{"mark", `(?i)\b(lost|zero|tokens?'s?|child's) marks?\b|\bmarks? of (a|an|the|its|their|each|both) (\w+ )?tokens?\b`, "token hash"},
	{"mark", `\b(a|by|the) mark( of (the|its) |,| names| that)|, marks$|// marks$|\b(handles|nonces) and marks\b|\b(opened|own|parent|child)Mark\b`, "token hash"},
	{"draw,drew", `(?i)\bdr(aw|aws|ew|awn|awing)( (a|an|the|its|new|each|one|another|up)){0,2} (child(ren)?|nonces?|handles?|siblings?|tokens?|keys?)\b`, "generate"},
	{"drawn", `(?i)\b(child(ren)?|nonces?|handles?|siblings?) (that )?(is|are|was|were|be) drawn\b|\bdrawn (child(ren)?|nonces?|handles?)\b`, "generated"},
	{"horizon", `(?i)\bhorizons?\b|RaiseHorizon`, "feed retention"},
	{"whole,feed_readings", `(?i)\bwhole read(s|ing)?\b|\breadings? of the whole feed\b|feed_readings`, "full resync"},
	{"session_contents,sessioncontents", `\bsession_contents\b|\bSessionContents\b`, "attributes (session_attributes)"},
	{"deliverevents,notechanges,eventskeep", `\bDeliverEvents\b|\bNoteChanges\b|\bEventsKeep\b`, "DeliverAudit, AuditChanges, AuditKeep"},
	{"verdict,refusal", `\bauthz\.Verdict\b|\bsessionhttp\.Refusal\b`, "sessions.Denial"},
	{"whoever", `(?i)\bwhoever\b`, "any client that, a caller that, an attacker that"},
	{"whosoever,whomever", `(?i)\bwhosoever\b|\bwhomever\b`, "any client that"},
	{"anew", `(?i)\banew\b`, "again, newly"},
	{"somebody", `\b[Ss]omebody\b`, "a user, another process"},
	{"nobody", `\b[Nn]obody\b`, "no one, no session, no client"},
	{"stranger", `(?i)\bstrangers?\b`, "a client, an attacker"},
	{"he,his,him", `(?i)\b(he|his|him|himself)\b`, "the attacker, the user, they"},
	{"of which", `(?i)\bof which\b`, "a second sentence"},
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
	words := compiled()
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
			line = strings.TrimSuffix(line, "\n")
			lower := strings.ToLower(line)
			for i, find := range words {
				if word := find(line, lower); word != "" && !isAllowed(name, line, used) {
					t.Errorf("%s:%d: not %q, but: %s", name, number, word, former[i].instead)
				}
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

// compiled finds each former word in a line, which it gets in small letters, too.
func compiled() []func(line, lower string) string {
	find := make([]func(line, lower string) string, len(former))
	for i, word := range former {
		parts, pattern := strings.Split(word.parts, ","), regexp.MustCompile(word.pattern)
		find[i] = func(line, lower string) string {
			if !slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(lower, part) }) {
				return ""
			}
			return pattern.FindString(line)
		}
	}
	return find
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
	words := compiled()
	for text, found := range map[string]bool{
		"return ErrOver": true, `code="session_over"`: true, "the session is over": true, "its sessions were over": true, "over HTTP, the session is overdue": false,
		"tokens are handed out": true, "a hand-out": true, "HandOutsMax": true, "hands a child out": true, "handed over": false,
		"the line of refresh tokens": true, "a token that left the line": true, "a line of the log": false,
		"func (t Token) mark() Mark": true, "the token's mark": true, "a mark of the refresh token": true, "a question mark": false, "the mark of its parent": true, "openedMark": true, "marks an endpoint": false, "the session's line": true, `"sessiongate mark v1"`: false,
		"draws a new child": true, "a nonce was drawn": true, "draw a picture": false, "the horizon": true, "read anew": true, "the whole reading": true,
		"Whoever asks": true, "somebody": true, "Nobody": true, "http.NoBody": false, "a stranger": true, "stranger": true, "strange": false,
		"what he has": true, "His token": true, "for him": true, "the header": false, "this": false, "the keys, of which one": true,
	} {
		got := slices.ContainsFunc(words, func(find func(line, lower string) string) bool { return find(text, strings.ToLower(text)) != "" })
		if got != found {
			t.Errorf("%q: found %t, want %t", text, got, found)
		}
	}
}
