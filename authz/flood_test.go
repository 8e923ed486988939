package authz

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"

	"github.com/sessiongate/sessiongate/sessions"
)

const (
	floodRate  = 5000 // invented tokens a second
	honestRate = 500  // Checks a second of a signed-in client
	floodStint = 500 * time.Millisecond
)

// BenchmarkFlood measures what a flood costs a signed-in client, over gRPC: the median and
// the 99th percentile of its Checks beside each, to what they are without one. Both
// are measured in turns, and of the turns' ratios the median is taken, for the machine
// has other work, too. "nothing" is a flood of requests without a token. What the
// flood's own transport costs is left out.
func BenchmarkFlood(b *testing.B) {
	g := newGate(b)
	client := authv3.NewAuthorizationClient(dial(b, g, g.engine.Ready))
	honest := navigation.cookie(access(g.alice)).mapped()
	floods := map[string]func(context.Context, int){
		"refreshes of one address": func(ctx context.Context, n int) {
			from := netip.MustParseAddr("192.0.2.1")
			tokens := []string{fmt.Sprint("invented", n)}
			if g.engine.AdmitRefresh(from, sessions.TransportCookie, tokens) == nil {
				_, _ = g.engine.Refresh(ctx, sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: tokens, Client: sessions.NewClient(from, "")})
			}
		},
	}
	for name, token := range inventions(b, g) {
		floods[name] = func(ctx context.Context, n int) {
			_, _ = g.server.Check(ctx, script.cookie("sAccessToken="+token(n)).mapped())
		}
	}
	for name, one := range floods {
		b.Run(name, func(b *testing.B) {
			var typical, worst []float64
			var alone, both, took time.Duration
			for b.Loop() {
				before, began := cpuTime(b), time.Now()
				quiet := paced(b, client, honest)
				between := cpuTime(b)
				alone += between - before
				ctx, stop := context.WithCancel(b.Context())
				var flood sync.WaitGroup
				flood.Go(func() { inundate(ctx, one) })
				beside := paced(b, client, honest)
				stop()
				flood.Wait()
				both += cpuTime(b) - between
				took += time.Since(began) / 2
				typical = append(typical, ratio(beside, quiet, 50))
				worst = append(worst, ratio(beside, quiet, 99))
			}
			b.ReportMetric(float64(both-alone)/float64(took), "flood-cores")
			b.ReportMetric(percentile(typical, 50), "p50/quiet")
			b.ReportMetric(percentile(worst, 50), "p99/quiet")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkTap is what counting the calls under way costs one: with it, to without it.
func BenchmarkTap(b *testing.B) {
	g := newGate(b)
	serve := func(counting ...grpc.ServerOption) authv3.AuthorizationClient {
		server := grpc.NewServer(append(counting, grpc.ReadBufferSize(DefaultLimits().ReadBuffer))...)
		authv3.RegisterAuthorizationServer(server, g.server)
		return authv3.NewAuthorizationClient(connect(b, server))
	}
	without := serve()
	with := serve(grpc.InTapHandle(newStreams(DefaultLimits().MaxCalls).begin), grpc.UnaryInterceptor(endAnswered))
	c := navigation.cookie(access(g.alice)).mapped()
	ask := func(client authv3.AuthorizationClient) time.Duration {
		began := time.Now()
		for range 200 {
			if _, err := client.Check(b.Context(), c); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(began)
	}
	var ratios []float64
	for b.Loop() {
		plain := ask(without)
		ratios = append(ratios, float64(ask(with))/float64(plain))
	}
	b.ReportMetric(percentile(ratios, 50), "with/without")
	b.ReportMetric(0, "ns/op")
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

// inundate does one floodRate times a second, until ctx ends.
func inundate(ctx context.Context, one func(context.Context, int)) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n, began := 0, time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := int(time.Since(began).Seconds() * floodRate); n < due && ctx.Err() == nil; n++ {
			one(ctx, n)
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

func ratio(beside, quiet []time.Duration, percent int) float64 {
	return float64(percentile(beside, percent)) / float64(percentile(quiet, percent))
}

func percentile[N cmp.Ordered](of []N, percent int) N {
	slices.Sort(of)
	return of[len(of)*percent/100]
}
