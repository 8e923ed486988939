package authz

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
)

// fields are the headers that a Check reads.
var fields = []string{
	"cookie", "authorization", "anti-csrf", "origin", "accept", "upgrade", "access-control-request-method", "sec-fetch-mode", "sec-fetch-site",
	"sec-fetch-dest", "sec-fetch-user", "sec-purpose", "referer", "st-auth-mode", "rid", "supertokens-sdk-name", "x-requested-with",
	"x-forwarded-proto", "x-request-id", "traceparent",
}

// heavy are requests that make work of n pieces of each kind: of lines where Envoy sends those, and inside of one header.
func heavy(alice string) map[string]func(n int) *authv3.CheckRequest {
	base := ask{method: "GET", path: "/api"}.under("session", "optional") // judged, and then stripped
	of := func(piece string) func(n int) string { return func(n int) string { return strings.Repeat(piece, n) } }
	all := map[string]func(n int) *authv3.CheckRequest{}
	for _, name := range fields {
		all["lines of "+name] = func(n int) *authv3.CheckRequest {
			// As many lines as are joined, and each longer with n.
			return base.with(slices.Repeat([]string{name, strings.Repeat("x", n)}, linesMax)...).raw()
		}
		for kind, text := range map[string]func(n int) string{
			"commas": of(","), "semicolons": of(";"), "names": of("sAccessToken "), "spaces": of(" "),
			"cookies": of("sAccessToken=x; "), "cookies after commas": of("st-access-token=a,"), "attributes": of("$Path=/; "),
			"tokens": of("Bearer sgr1_x, "), "dots": of("ey."), "sessiongate's tokens": of(alice + "; "), "broken bytes": of("st-access-token=\xff; a=\xfe;"),
		} {
			all[kind+" in "+name] = func(n int) *authv3.CheckRequest { return base.with(name, text(n)).raw() }
			all[kind+" in "+name+", mapped"] = func(n int) *authv3.CheckRequest { return base.with(name, strings.ToValidUTF8(text(n), "?")).mapped() }
		}
	}
	all["path"] = func(n int) *authv3.CheckRequest { return ask{method: "GET", path: "/" + strings.Repeat("a/", n)}.raw() }
	all["escaped path"] = func(n int) *authv3.CheckRequest {
		return ask{method: "GET", path: "/" + strings.Repeat("%2561;x/", n)}.raw()
	}
	all["query"] = func(n int) *authv3.CheckRequest {
		return ask{method: "GET", path: "/?" + strings.Repeat("a=%20&", n)}.raw()
	}
	all["host"] = func(n int) *authv3.CheckRequest {
		return ask{method: "GET", path: "/", host: strings.Repeat("a.", n)}.raw()
	}
	all["method"] = func(n int) *authv3.CheckRequest { return ask{method: strings.Repeat("GET", n), path: "/"}.raw() }
	return all
}

// The memory that a Check takes is a count that no other load on the machine changes, and joining is copying: so it shows what costs the square.
func TestCheckCostsWhatItsBytesDo(t *testing.T) {
	g := newGate(t, func(c *Config) {
		c.StripCookies = true
		c.Routes = []Route{{Host: "app.example", PathPrefix: "/api", Policy: map[string]string{}}}
	})
	taken := func(c *authv3.CheckRequest) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := g.server.Check(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	for name, of := range heavy(access(g.alice)) {
		const n = 300
		small, large := of(n), of(4*n)
		taken(small)
		one, four := taken(small), taken(large)
		// 32 KiB are for what does not grow: pages, log lines, the runtime's own.
		if four > 5*one+32<<10 {
			t.Errorf("%s: %d bytes, four times as many: %d", name, one, four)
		}
		if size := uint64(proto.Size(large)); four > 8*size+64<<10 {
			t.Errorf("%s: %d bytes for a message of %d", name, four, size)
		}
	}
}

// Where an attacker chooses the number of lines.
func TestRepeatedHeaders(t *testing.T) {
	g := newGate(t)
	for _, name := range fields {
		field, _ := new(request).field(name)
		for _, n := range []int{linesMax, linesMax + 1, 7000} {
			a := script.cookie(access(g.alice)).without(name).with(slices.Repeat([]string{name, "x=1"}, n)...)
			for _, policy := range []map[string]string{nil, {"session": "optional"}, {"login_url": "/api"}} {
				a.policy = policy
				response, err := g.server.Check(t.Context(), a.raw())
				if err != nil {
					t.Fatal(err)
				}
				r := read(t, response)
				if tooMany := field != nil && n > linesMax; tooMany != (r.status == http.StatusRequestHeaderFieldsTooLarge) {
					t.Errorf("%s, %d times, %v: %d", name, n, policy, r.status)
				}
			}
		}
	}
	// Up to there none is lost, and none is added.
	lines := []string{}
	for i := range linesMax - 1 {
		lines = append(lines, "cookie", fmt.Sprintf("c%d=1", i))
	}
	r := readRequest(script.with(lines...).cookie(access(g.alice)).raw())
	if got := strings.Split(r.cookie, "; "); len(got) != linesMax || got[0] != "c0=1" || got[1] != "c1=1" || got[linesMax-1] != access(g.alice) {
		t.Errorf("joined to %q", r.cookie)
	}
	if one := testing.AllocsPerRun(10, func() { readRequest(script.cookie("a=1").raw()) }) - testing.AllocsPerRun(10, func() { script.cookie("a=1").raw() }); one > 5 {
		t.Errorf("a request without repetitions costs %v allocations", one)
	}
}

func BenchmarkReadRequest(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		for _, size := range []int{512, 2048} {
			c := script.with(slices.Repeat([]string{"cookie", strings.Repeat("x", size)}, n)...).raw()
			b.Run(fmt.Sprintf("%d lines of %d", n, size), func(b *testing.B) {
				b.SetBytes(int64(n * size))
				for b.Loop() {
					readRequest(c)
				}
			})
		}
	}
}
