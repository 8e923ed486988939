package envoy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// keepAlive is a client whose connections stay open, as those of most programs, and that repeats nothing by itself.
func keepAlive(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// unrepeatable is a body that net/http cannot send again, and so does not on a connection that turns out to be closed.
type unrepeatable struct{ io.Reader }

// signInAt creates a session over the client's own connections. refused says that no one listens there any more: nothing was sent.
func (p *replica) signInAt(client *http.Client) (refused bool, err error) {
	body, err := json.Marshal(map[string]string{"user_id": "roller"})
	if err != nil {
		return false, err
	}
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+p.internal+"/v1/sessions", unrepeatable{bytes.NewReader(body)})
	if err != nil {
		return false, err
	}
	request.ContentLength = int64(len(body))
	request.Header.Set("Authorization", "Bearer "+p.apiKey)
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return strings.Contains(err.Error(), "connection refused"), err
	}
	defer func() { _ = response.Body.Close() }()
	var c created
	if err := json.NewDecoder(response.Body).Decode(&c); err != nil || response.StatusCode != http.StatusCreated {
		return false, fmt.Errorf("status %d, %w", response.StatusCode, err)
	}
	p.secrets.add(c.Tokens.Access, c.Tokens.Refresh, c.Tokens.AntiCSRF)
	return false, nil
}

// TestRollout goes from the former release to the present one, under load: the present one migrates the schema, then each of two replicas is
// replaced. No check, no refresh and no sign-in fails. The soak goes through two releases in a row, and Envoy looks as seldom as shipped.
func TestRollout(t *testing.T) {
	// On a busy machine Envoy may see late what it looks at, so replicas linger for three of its looks.
	former, look := 1, time.Second
	if soak {
		former, look = 2, 5*time.Second
	}
	var releases []string
	for n := former; n > 0; n-- {
		file, err := programBefore(n)
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, file)
	}
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	releases = append(releases, file)
	options := func(release int) stackOptions {
		settings := []string{"SESSIONGATE_SHUTDOWN_LINGER=" + (3 * look).String(), "SESSIONGATE_SHUTDOWN_TIMEOUT=25s"}
		o := stackOptions{noEnvoy: true, settings: settings, program: releases[release]}
		if release < former {
			o.former = o.program
		}
		return o
	}
	s := newStack(t, options(0))
	// Envoy must know the successors' addresses: ports that the first ones were given, on another address of loopback.
	generations := [][]*replica{s.processes}
	for n := range former {
		moved := func(address string) string {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				t.Fatal(err)
			}
			return net.JoinHostPort(fmt.Sprintf("127.77.0.%d", n+1), port)
		}
		var next []*replica
		for _, p := range generations[0] {
			next = append(next, &replica{stack: s, name: fmt.Sprintf("%s-%d", p.name, n+1), authz: moved(p.authz), public: moved(p.public), internal: moved(p.internal)})
		}
		generations = append(generations, next)
	}
	s.processes = slices.Concat(generations...)
	s.proxy = s.startEnvoy("envoy", func(b *bootstrapv3.Bootstrap) error {
		for _, cluster := range b.GetStaticResources().GetClusters() {
			for _, check := range cluster.GetHealthChecks() {
				check.Interval, check.NoTrafficInterval = durationpb.New(look), durationpb.New(look)
			}
			// Most of the addresses are of replicas that are not there yet, or no more. Of a cluster that is half away, Envoy would ask those, too.
			cluster.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{}}
		}
		return nil
	})
	s.processes = generations[0]
	healthy := func(cluster string, want string) func() bool {
		return func() bool {
			return strings.Contains(stats(s.proxy), "cluster."+cluster+".membership_healthy: "+want+"\n")
		}
	}

	// The load.
	load := s.newLoad(t)
	for range 3 {
		b := s.newBrowser(networkV)
		b.signIn("alice")
		load.run(func() error { return b.send(http.MethodGet, "/", script).ok("check") })
	}
	for range 2 {
		b := s.newBrowser(networkV)
		b.signIn("bob")
		load.run(func() error { return b.refresh().ok("refresh") })
	}
	var listening sync.Map // to true; what a load balancer before the sessions API would have
	for _, p := range s.processes {
		listening.Store(p, true)
	}
	for range 2 {
		client := keepAlive(t)
		load.run(func() error {
			var problem error
			listening.Range(func(p, _ any) bool {
				refused, err := p.(*replica).signInAt(client)
				if refused { // what was not sent goes elsewhere
					listening.Delete(p)
				} else if err != nil {
					problem = fmt.Errorf("sign-in: %w", err)
				}
				return problem == nil
			})
			return problem
		})
	}

	load.more(50)
	for release := 1; release <= former; release++ {
		s.migrateBy(releases[release], s.url)
		load.more(50)
		for i, old := range generations[release-1] {
			next, o := generations[release][i], options(release)
			o.settings = append([]string{
				"SESSIONGATE_LISTEN_AUTHZ=" + next.authz, "SESSIONGATE_LISTEN_PUBLIC=" + next.public, "SESSIONGATE_LISTEN_INTERNAL=" + next.internal,
			}, o.settings...)
			successor := s.launch(releases[release], next.name, o)
			successor.awaitAddresses()
			successor.awaitReady()
			listening.Store(successor, true)
			for _, cluster := range []string{"sessiongate_authz", "sessiongate_public"} {
				s.eventually("Envoy finds the new replica in "+cluster, healthy(cluster, "3"))
			}
			load.more(50)
			old.signal()
			old.awaitLine(`"draining"`)
			load.more(50)
			old.stop() // waits, and wants exit code 0
			for _, cluster := range []string{"sessiongate_authz", "sessiongate_public"} {
				s.eventually("Envoy misses the old replica in "+cluster, healthy(cluster, "2"))
			}
			load.more(50)
			generations[release][i] = successor
			s.processes = append(s.processes[1:2:2], successor)
		}
	}
	load.stop()
	if sent := load.sent.Load(); soak {
		t.Logf("%d requests during two upgrades in a row", sent)
	}
}

// TestLastAnswer: a draining process still answers on a connection that is open, and closes it with the answer; one on which nothing comes
// does not keep it running.
func TestLastAnswer(t *testing.T) {
	s := newStack(t, stackOptions{processes: 1, noEnvoy: true, settings: []string{
		// Longer than this test: only the answers can close the connections.
		"SESSIONGATE_SHUTDOWN_LINGER=5m", "SESSIONGATE_SHUTDOWN_TIMEOUT=10m",
	}})
	p := s.processes[0]
	client := keepAlive(t)
	get := func(address string) (reused, closes bool) {
		t.Helper()
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }})
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/.well-known/jwks.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		return reused, response.Close
	}
	for _, address := range []string{p.public, p.internal} {
		if _, closes := get(address); closes {
			t.Errorf("%s closes a connection without need", address)
		}
	}
	p.signal()
	p.awaitLine(`"draining"`)
	s.eventually("the listeners close", func() bool {
		conn, err := net.Dial("tcp", p.public)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	for _, address := range []string{p.public, p.internal} {
		if reused, closes := get(address); !reused || !closes {
			t.Errorf("%s while draining: on the open connection %t, closes it %t", address, reused, closes)
		}
	}
	p.stop() // which now has nothing to wait for
}

// TestIdleConnections: those that nothing comes on are closed in the end.
func TestIdleConnections(t *testing.T) {
	s := newStack(t, stackOptions{processes: 1, noEnvoy: true, settings: []string{"SESSIONGATE_SHUTDOWN_LINGER=100ms"}})
	p := s.processes[0]
	client := keepAlive(t)
	if refused, err := p.signInAt(client); refused || err != nil {
		t.Fatal(err)
	}
	p.stop()
}
