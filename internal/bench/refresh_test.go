package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

func TestRefresh(t *testing.T) {
	d := testDeployment(t)
	process, err := d.serve(t.Context(), d.sessiongate, "SESSIONGATE_SWEEP_INTERVAL=1d")
	if err != nil {
		t.Fatal(err)
	}
	users, err := d.signInAll(t.Context(), process, 8)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("another rule ends a turn", func(t *testing.T) { refusesOtherRules(t, d, process, users) })
	t.Run("same statements", func(t *testing.T) { sendsTheSame(t, d) })
	t.Run("same answer", func(t *testing.T) { answersLike(t, &gate{process, d.apiKey}) })
}

// What Envoy is measured to do with sessiongate's answer is right while the answer is sessiongate's.
func answersLike(t *testing.T, g *gate) {
	t.Helper()
	ada, err := g.signIn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	message, err := script.withCookie(ada.cookie)
	if err != nil {
		t.Fatal(err)
	}
	var c authv3.CheckRequest
	if err := proto.Unmarshal(message, &c); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(g.at.Authz, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	theirs, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), &c)
	if err != nil {
		t.Fatal(err)
	}
	for variant, told := range map[string]bool{likeAllowAll: true, untoldAllow: false} {
		text, err := bareAnswer(variant)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte(likeHandle), []byte(ada.handle))
		var ours authv3.CheckResponse
		if err := proto.Unmarshal(text, &ours); err != nil {
			t.Fatal(err)
		}
		want := proto.CloneOf(theirs)
		if !told {
			want.DynamicMetadata = nil
		}
		byName := protocmp.SortRepeated(func(a, b *corev3.HeaderValueOption) bool { return a.GetHeader().GetKey() < b.GetHeader().GetKey() })
		if diff := cmp.Diff(want, &ours, protocmp.Transform(), byName); diff != "" {
			t.Errorf("%s: sessiongate (-) and the benchmark (+) answer otherwise:\n%s", variant, diff)
		}
	}
}

// The bare handlers, and pgbench with their statements, are a measure only while sessiongate sends
// the same statements. The server says what it was sent; only spaces may differ.
func sendsTheSame(t *testing.T, d *deployment) {
	t.Helper()
	// A token that came is remembered for as long as the test may take.
	gate, err := d.serve(t.Context(), d.sessiongate, "SESSIONGATE_SWEEP_INTERVAL=1d", "SESSIONGATE_REFRESH_PER_SESSION_BURST=100000")
	if err != nil {
		t.Fatal(err)
	}
	users, err := d.signInAll(t.Context(), gate, 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.execute(t.Context(), `CREATE EXTENSION pg_stat_statements`); err != nil {
		t.Fatal(err)
	}
	plain, err := d.serveBare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := d.issueChildren(t.Context(), users[2:], gate)
	if err != nil {
		t.Fatal(err)
	}
	once := func(address string, requests [][]byte, judge func(int, []byte, []byte) error) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := closedLoop{address: address, connections: 1, requests: requests[:1], once: true, judge: judge}.run(ctx)
			return err
		}
	}
	first, second := users[:1], users[1:2]
	refresh := func(child bool) func(context.Context) error {
		return once(gate.at.Public, browserRequests(first, refreshPath), answers(child))
	}
	keep := once(plain.at.Public, browserRequests(first, "/keep"), isOK)
	// The token came before: what is measured is that it comes again.
	came := func(s state, refresh func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error { return errors.Join(d.set(ctx, s), refresh(ctx)) }
	}
	for _, test := range []struct {
		name       string
		before     func(context.Context) error
		ours, bare func(context.Context) error
	}{
		{
			"promotion", nothing,
			func(ctx context.Context) error { return useByCheck(ctx, gate, tokens[:4]) },
			func(ctx context.Context) error { return d.usePlainly(ctx, plain, tokens[4:]) },
		},
		{
			"R4", d.before(due),
			once(gate.at.Public, browserRequests(second, refreshPath), answers(true)),
			once(plain.at.Public, browserRequests(second, "/issue"), isOK),
		},
		{
			"R3", came(young, refresh(false)), refresh(false), keep,
		},
		{
			"R5", came(issued, refresh(true)), refresh(true), keep,
		},
		{
			"R7", came(replaced, refresh(false)), refresh(false), keep,
		},
		{
			"sign-in", d.restore,
			once(gate.at.Internal, d.signIns("/v1/sessions"), isCreated),
			once(plain.at.Public, d.signIns("/create"), isCreated),
		},
		{
			"sign-out", d.restore,
			once(gate.at.Public, browserRequests(first, signOutPath), isOK),
			once(plain.at.Public, browserRequests(first, "/end"), isOK),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var sent [2][]string
			for i, act := range []func(context.Context) error{test.ours, test.bare} {
				if err := test.before(t.Context()); err != nil {
					t.Fatal(err)
				}
				sent[i] = d.statementsOf(t, act)
			}
			if len(sent[0]) == 0 {
				t.Error("sessiongate sends no statement")
			}
			if diff := cmp.Diff(sent[0], sent[1]); diff != "" {
				t.Errorf("what sessiongate (-) and the bare handler (+) send is not the same; change refreshbare.go:\n%s", diff)
			}
		})
	}
}

// statementsOf are the statements about sessions that the server gets while act runs.
func (d *deployment) statementsOf(t *testing.T, act func(context.Context) error) []string {
	t.Helper()
	if err := d.execute(t.Context(), `SELECT pg_stat_statements_reset()`); err != nil {
		t.Fatal(err)
	}
	if err := act(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows, err := d.db.Query(t.Context(), `SELECT query FROM pg_stat_statements
		WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query LIKE '%active_sessions%' AND query NOT LIKE '%pg_stat_statements%'`)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range sent {
		// Postgres shows a constant as it came, or as a parameter.
		sent[i] = constant.ReplaceAllString(strings.Join(strings.Fields(text), " "), "?")
	}
	slices.Sort(sent)
	return sent
}

var constant = regexp.MustCompile(`'[^']*'|\$\d+`)

// An answer by another rule than the measured one ends a turn, however fast it came.
func refusesOtherRules(t *testing.T, d *deployment, gate *child, users []user) {
	t.Helper()
	requests := browserRequests(users, refreshPath)
	for name, a := range map[string]action{
		"kept instead of issued":  {before: d.before(young), once: true, judge: answers(true)},
		"issued instead of kept":  {before: d.before(due), once: true, judge: answers(false)},
		"again instead of issued": {before: d.before(issued), once: true, judge: answers(true), after: func(ctx context.Context, n int) error { return d.issuedOnce(ctx, n+1) }},
	} {
		if _, _, err := d.play(t.Context(), a, rival{"", gate.PID(), gate.at.Public, requests}); err == nil {
			t.Errorf("%s: a turn did not fail", name)
		}
	}
}

// testDeployment is a database with the benchmark's programs.
func testDeployment(t *testing.T) *deployment {
	t.Helper()
	b := &bench{dir: t.TempDir(), turn: time.Minute, key: secret(), apiKey: secret()}
	var err error
	if b.self, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	b.sessiongate = filepath.Join(b.dir, "sessiongate")
	if text, err := exec.CommandContext(t.Context(), "go", "build", "-o", b.sessiongate, "../../cmd/sessiongate").CombinedOutput(); err != nil {
		t.Fatalf("building sessiongate: %v\n%s", err, text)
	}
	d, err := deploy(t.Context(), b, cluster.Options{Settings: map[string]string{"shared_preload_libraries": "pg_stat_statements"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.stop(t.Context()) })
	return d
}
