package authz

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

const (
	floodRate  = 5000 // invented tokens a second
	honestRate = 500  // Checks a second of one who is signed in
	floodStint = 500 * time.Millisecond
)

// BenchmarkFlood is what a signed-in client feels of invented tokens, over gRPC: the
// 99th percentile of its Checks beside each flood, to what it is without one. Both
// are measured in turns, for the machine has other work, too; "nothing" is a flood of
// requests without a token. What the flood's own transport costs is left out.
func BenchmarkFlood(b *testing.B) {
	g := newGate(b)
	client := authv3.NewAuthorizationClient(dial(b, g, g.engine.Ready))
	honest := navigation.cookie(access(g.alice)).mapped()
	for name, token := range inventions(b, g) {
		b.Run(name, func(b *testing.B) {
			var quiet, beside []time.Duration
			var alone, both, took time.Duration
			for b.Loop() {
				before, began := cpuTime(b), time.Now()
				quiet = append(quiet, paced(b, client, honest)...)
				between := cpuTime(b)
				alone += between - before
				ctx, stop := context.WithCancel(b.Context())
				var flood sync.WaitGroup
				flood.Go(func() { inundate(ctx, g.server, token) })
				beside = append(beside, paced(b, client, honest)...)
				stop()
				flood.Wait()
				both += cpuTime(b) - between
				took += time.Since(began) / 2
			}
			b.ReportMetric(float64(both-alone)/float64(took), "flood-cores")
			b.ReportMetric(float64(p99(quiet).Microseconds()), "quiet-µs")
			b.ReportMetric(float64(p99(beside).Microseconds()), "beside-µs")
			b.ReportMetric(float64(p99(beside))/float64(p99(quiet)), "beside/quiet")
		})
	}
}

// inventions are the kinds of token that a flood may consist of: what makes the n-th.
func inventions(tb testing.TB, g *gate) map[string]func(n int) string {
	tb.Helper()
	parts := strings.Split(g.bob.Access.Reveal(), ".")
	header, payload := parts[0], parts[1]
	body, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		tb.Fatal(err)
	}
	signature := func() string {
		var sig [64]byte
		_, _ = rand.Read(sig[:])
		return base64.RawURLEncoding.EncodeToString(sig[:])
	}
	invent := func(text string) string {
		return header + "." + base64.RawURLEncoding.EncodeToString([]byte(text)) + "." + signature()
	}
	untagged := string(body[:strings.LastIndex(string(body), `,"tag"`)]) + "}}"
	return map[string]func(n int) string{
		"nothing":          func(int) string { return "" },
		"unknown key":      func(n int) string { return fmt.Sprintf("x%07d.%s.%s", n, payload, signature()) },
		"wrong tag":        func(n int) string { return invent(strings.Replace(string(body), "bob", fmt.Sprint("bob", n), 1)) },
		"others signature": func(int) string { return header + "." + payload + "." + signature() },
		"no tag":           func(n int) string { return invent(strings.Replace(untagged, "bob", fmt.Sprint("bob", n), 1)) },
	}
}

// inundate has floodRate invented tokens a second judged, until ctx ends.
func inundate(ctx context.Context, s *Server, token func(int) string) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n, began := 0, time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := int(time.Since(began).Seconds() * floodRate); n < due && ctx.Err() == nil; n++ {
			_, _ = s.Check(ctx, script.cookie("sAccessToken="+token(n)).mapped())
		}
	}
}

// paced asks honestRate times a second, for a stint, and gives how long each took.
func paced(tb testing.TB, client authv3.AuthorizationClient, c *authv3.CheckRequest) []time.Duration {
	tb.Helper()
	took := make([]time.Duration, int(honestRate*floodStint.Seconds()))
	var all sync.WaitGroup
	tick := time.NewTicker(time.Second / honestRate)
	defer tick.Stop()
	for i := range took {
		<-tick.C
		all.Go(func() {
			began := time.Now()
			r, err := client.Check(context.Background(), c)
			took[i] = time.Since(began)
			if err != nil || r.GetStatus().GetCode() != 0 {
				tb.Errorf("an honest client is answered %v, %v", r.GetStatus(), err)
			}
		})
	}
	all.Wait()
	return took
}

// cpuTime is what this process has used of the CPUs.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func p99(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)*99/100]
}
