package envoy_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// formerProgram is sessiongate as it was before the newest migration, where the two versions have different schemas.
func formerProgram() (string, error) { return programBefore(1) }

// formers are the programs that programBefore has built, by how many migrations they lack.
var formers = struct {
	sync.Mutex

	files map[int]string
}{files: map[int]string{}}

// programBefore builds sessiongate as it was before the newest n migrations, from the repository's history, and each once.
func programBefore(n int) (string, error) {
	formers.Lock()
	defer formers.Unlock()
	if file, ok := formers.files[n]; ok {
		return file, nil
	}
	commit, err := commitBefore(n)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "sessiongate-former-")
	if err != nil {
		return "", err
	}
	afterAllTests(func() { _ = os.RemoveAll(dir) })
	archive := filepath.Join(dir, "source.tar")
	if _, err := git("archive", "--output", archive, commit); err != nil {
		return "", err
	}
	if out, err := exec.Command("tar", "-xf", archive, "-C", dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpacking the former version: %w: %s", err, out)
	}
	file := filepath.Join(dir, "former")
	build := exec.Command("go", "build", "-race", "-buildvcs=false", "-o", file, "./cmd/sessiongate")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the former version, %s: %w\n%s", commit, err, out)
	}
	formers.files[n] = file
	return file, nil
}

func commitBefore(n int) (string, error) {
	const how = "this test builds the former version from the repository's history: run it in a clone, with `git fetch --unshallow` where that is shallow"
	shallow, err := git("rev-parse", "--is-shallow-repository")
	if err != nil || shallow != "false" {
		return "", fmt.Errorf("%s (%s %w)", how, shallow, err)
	}
	migrations, err := filepath.Glob("../sessions/postgres/migrations/*.sql")
	if err != nil || len(migrations) <= n {
		return "", fmt.Errorf("looking for more than %d migrations: %d found, %w", n, len(migrations), err)
	}
	slices.Sort(migrations)
	added := strings.TrimPrefix(migrations[len(migrations)-n], "../")
	commit, err := git("log", "-1", "--format=%H", "--diff-filter=A", "--", added)
	if err == nil && commit == "" {
		// Not committed yet: the former version is what is.
		return git("rev-parse", "HEAD")
	}
	if err != nil {
		return "", err
	}
	return git("rev-parse", commit+"^")
}

func git(args ...string) (string, error) {
	var problem bytes.Buffer
	// CI may run as another user than the one who cloned; what is in the repository runs here in any case.
	command := exec.Command("git", append([]string{"-c", "safe.directory=*"}, args...)...)
	command.Dir = ".." // the whole repository
	command.Stderr = &problem
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(problem.Bytes()))
	}
	return string(bytes.TrimSpace(out)), nil
}

// known leaves out the settings that a program does not have yet, for it would not start with them.
func known(t *testing.T, program string, environ []string) []string {
	t.Helper()
	reference, err := exec.Command(program, "config", "--reference").Output()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return strings.HasPrefix(name, "SESSIONGATE_") && !bytes.Contains(reference, []byte("`"+name+"`"))
	})
}

// ownHash names the refresh token that came with the browser's access token.
func ownHash(t *testing.T, b *browser) string {
	t.Helper()
	parts := strings.Split(b.access(), ".")
	if len(parts) != 3 {
		t.Fatal("no access token")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Gate struct{ Own string } `json:"sg"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil || claims.Gate.Own == "" {
		t.Fatalf("an access token without a token hash: %v", err)
	}
	return claims.Gate.Own
}

// TestTwoVersions: a rollout runs two versions over one database, and a rollback goes back to the former one. Whatever the one began the
// other goes on with.
func TestTwoVersions(t *testing.T) {
	t.Parallel()
	former, err := formerProgram()
	if err != nil {
		t.Fatal(err)
	}
	s := newStack(t, stackOptions{former: former, settings: []string{offerBinding}, more: func(s *stack) []string {
		s.migrate(s.url)
		return nil
	}})
	present, old := s.processes[0], s.processes[1]
	// at sends a browser to one process, past Envoy.
	at := func(b *browser, p *replica) *browser {
		b.target = "http://" + p.public
		return b
	}
	signIn := func(t *testing.T, p *replica) (*browser, string) {
		t.Helper()
		c := p.create("alice")
		b := s.newBrowserAt("http://"+p.public, networkV, nil)
		b.take(answer{header: http.Header{"Set-Cookie": c.SetCookie, "Anti-Csrf": {c.Tokens.AntiCSRF}}})
		return b, c.Session.Handle
	}
	allows := func(t *testing.T, p *replica, b *browser) {
		t.Helper()
		if status := p.check(b.access(), b.antiCSRF); status != http.StatusOK {
			t.Errorf("%s answers %d", p.name, status)
		}
	}
	for _, way := range []struct {
		name     string
		from, to *replica
	}{{"from new to old", present, old}, {"from old to new", old, present}} {
		t.Run(way.name, func(t *testing.T) {
			b, handle := signIn(t, way.from)
			allows(t, way.to, b)
			s.advance(grace + moment)
			if !at(b, way.to).mustRefresh(t) {
				t.Error("no new refresh token")
			}
			allows(t, way.from, b) // which promotes what the other issued
			s.awaitPromoted(handle)

			// A repeat at the other one gets the same child.
			s.advance(repeat + moment)
			twin := b.stolenBy(networkV)
			at(b, way.from).mustRefresh(t)
			at(twin, way.to).mustRefresh(t)
			if ownHash(t, b) != ownHash(t, twin) {
				t.Error("the two versions derive two children of one token")
			}

			// New claims, written by the one, send the tokens of both to refresh.
			if status, _ := way.from.api(http.MethodPatch, "/v1/sessions/"+handle, map[string]any{"claims": map[string]any{"role": "admin"}}, nil); status != http.StatusOK {
				t.Errorf("PATCH: %d", status)
			}
			s.eventually("the other one asks for a refresh", func() bool { return way.to.check(b.access(), b.antiCSRF) != http.StatusOK })
			at(b, way.to).mustRefresh(t)
			allows(t, way.from, b)

			// Theft: the thief's line goes on at the one, the victim's comes up at the other.
			thief := b.stolenBy(networkX)
			at(thief, way.from)
			s.advance(repeat + moment)
			thief.mustRefresh(t)
			allows(t, way.from, thief)
			s.awaitPromoted(handle)
			s.advance(grace + moment)
			at(b, way.to).refresh().ended(t, "token theft detected")
			s.denied(thief.access(), thief.antiCSRF)
			if n := s.endedFor(handle, "theft"); n != 1 {
				t.Errorf("%d events of theft", n)
			}

			// Sign-out at the one, revocation by the other.
			b, _ = signIn(t, way.from)
			token := b.access()
			if a := at(b, way.to).do(http.MethodPost, "/auth/signout", script); a.status != http.StatusOK {
				t.Errorf("sign-out: %d", a.status)
			}
			s.denied(token, b.antiCSRF)
			b, handle = signIn(t, way.from)
			if status, _ := way.to.api(http.MethodDelete, "/v1/sessions/"+handle, nil, nil); status != http.StatusOK {
				t.Errorf("DELETE: %d", status)
			}
			s.denied(b.access(), b.antiCSRF)
		})
	}

	// The former version knows no binding. It must not refresh a bound session for a thief of its cookies.
	t.Run("a bound session", func(t *testing.T) {
		device, c := sessionstest.NewDevice(t), present.create("erin")
		must := func(what string, status int) func(answer, error) answer {
			return func(a answer, err error) answer {
				t.Helper()
				if err != nil || a.status != status {
					t.Fatalf("%s: %d %s, %v", what, a.status, a.body, err)
				}
				return a
			}
		}
		id := identifierOf(must("a registration", http.StatusOK)(present.prove(bindPath, c.Tokens.Refresh, networkV, "", device.Registration(offerOf(t, c)))))
		prove := func() answer {
			t.Helper()
			asked := must("asking for a challenge", http.StatusForbidden)(present.prove(boundPath, c.Tokens.Refresh, networkV, id, ""))
			return must("a proof", http.StatusOK)(present.prove(boundPath, c.Tokens.Refresh, networkV, id, device.Proof(challengeOf(asked))))
		}
		access := prove().value("sAccessToken")
		s.eventually("the former version allows a bound session", func() bool { return old.check(access, c.Tokens.AntiCSRF) == http.StatusOK })
		for range 2 {
			s.advance(repeat + moment)
			a := must("a refresh by the former version", http.StatusServiceUnavailable)(old.post(refreshPath, "sRefreshToken="+c.Tokens.Refresh, networkX))
			if len(a.header.Values("Set-Cookie")) > 0 {
				t.Error("a refused refresh sets cookies")
			}
			must("a refresh by the present one", http.StatusTemporaryRedirect)(present.post(refreshPath, "sRefreshToken="+c.Tokens.Refresh, networkX))
			access = prove().value("sAccessToken")
			if status := old.check(access, c.Tokens.AntiCSRF); status != http.StatusOK {
				t.Errorf("the former version answers %d", status)
			}
		}
	})

	before := s.newBrowser(networkV)
	handle := before.signIn("carol")
	t.Run("behind one Envoy", func(t *testing.T) {
		for range 3 {
			s.advance(repeat + moment)
			before.mustRefresh(t)
			before.use(handle)
		}
	})
	fromNew, handleNew := signIn(t, present)
	t.Run("rollback", func(t *testing.T) {
		present.stop()
		s.processes = []*replica{old}
		s.advance(repeat + moment)
		before.mustRefresh(t)
		before.mustGet(t)
		at(fromNew, old).mustRefresh(t)
		allows(t, old, fromNew)
		s.awaitPromoted(handleNew)
		again := s.newBrowser(networkW)
		again.signIn("dave")
		again.mustGet(t)
		if a := again.do(http.MethodPost, "/auth/signout", script); a.status != http.StatusOK {
			t.Errorf("sign-out: %d", a.status)
		}
	})
}
