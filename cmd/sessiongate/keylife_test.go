package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// The commands on the keys in the database, against the real one.
func TestKeyCommands(t *testing.T) {
	t.Parallel()
	c, err := cluster.Start(t.Context(), cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	for name, test := range map[string]func(*keyTest){
		"from the first key to the third": (*keyTest).generations,
		"one kind alone":                  (*keyTest).oneKind,
		"another key-encryption key":      (*keyTest).rewrap,
		"a wrong key-encryption key":      (*keyTest).wrongKey,
		"no keys yet":                     (*keyTest).none,
		"many at once":                    (*keyTest).atOnce,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			name := "keys_" + regexp.MustCompile(`\W`).ReplaceAllString(name, "_")
			if err := c.CreateDatabase(t.Context(), name, ""); err != nil {
				t.Fatal(err)
			}
			k := &keyTest{T: t, url: c.URL(name)}
			if _, err := run(t, k.environ(), "migrate"); err != nil {
				t.Fatal(err)
			}
			if k.conn, err = pgx.Connect(t.Context(), k.url); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = k.conn.Close(context.WithoutCancel(t.Context())) })
			test(k)
		})
	}
}

type keyTest struct {
	*testing.T

	url   string
	conn  *pgx.Conn
	ahead time.Duration
}

// environ is that of a command; the database is all that it has without more.
func (k *keyTest) environ(more ...string) []string {
	return append([]string{"SESSIONGATE_DATABASE_URL=" + k.url}, more...)
}

func withKey(key string) string { return "SESSIONGATE_KEY=" + key }

// serve makes the first keys, as the first process does.
func (k *keyTest) serve() {
	k.Helper()
	kek, err := sessions.ParseKeyEncryptionKey(testKey)
	if err != nil {
		k.Fatal(err)
	}
	store, err := postgres.Open(k.Context(), postgres.Config{URL: k.url})
	if err != nil {
		k.Fatal(err)
	}
	k.Cleanup(store.Close)
	cfg := sessions.Defaults()
	cfg.KeyEncryptionKey = kek
	sessionstest.StartEngine(k.T, store, cfg)
}

func (k *keyTest) advance(by time.Duration) {
	k.Helper()
	k.ahead += by
	if _, err := k.conn.Exec(k.Context(), sessionstest.SetClock(k.ahead)); err != nil {
		k.Fatal(err)
	}
}

// listed is the table of `keys list`, without its head: a row's columns.
func (k *keyTest) listed() [][]string {
	k.Helper()
	out, err := run(k.T, k.environ(), "keys", "list")
	if err != nil {
		k.Fatal(err)
	}
	var rows [][]string
	for i, line := range strings.Split(strings.TrimSpace(out), "\n") {
		columns := regexp.MustCompile(` {2,}`).Split(line, -1)
		if len(columns) != 8 {
			k.Fatalf("%d columns in %q", len(columns), line)
		}
		if i > 0 {
			rows = append(rows, columns)
		}
	}
	return rows
}

// states are kind, generation and state of each key.
func (k *keyTest) states() (states []string) {
	k.Helper()
	for _, row := range k.listed() {
		states = append(states, strings.Join([]string{row[0], row[1], row[3]}, " "))
	}
	return states
}

func (k *keyTest) want(states ...string) {
	k.Helper()
	if got := k.states(); !slices.Equal(got, states) {
		k.Errorf("listed %q, want %q", got, states)
	}
}

func (k *keyTest) rotate(args ...string) (string, error) {
	return run(k.T, k.environ(withKey(testKey)), append([]string{"keys", "rotate"}, args...)...)
}

func (k *keyTest) generations() {
	k.serve()
	k.want("sealing 1 in use", "signing 1 in use")

	out, err := k.rotate()
	made := regexp.MustCompile(`(?m)^made generation 2 of the (signing|sealing) key: (\S{11}), active from (\S+)$`).FindAllStringSubmatch(out, -1)
	if err != nil || len(made) != 2 {
		k.Fatalf("%v, printed %q", err, out)
	}
	k.want("sealing 1 in use", "sealing 2 published", "signing 1 in use", "signing 2 published")
	rows := k.listed()
	signing, sealing := made[0], made[1]
	if rows[3][2] != signing[2] || rows[3][5] != signing[3] || rows[1][2] != sealing[2] || rows[1][5] != sealing[3] {
		k.Errorf("made %q, listed %q", made, rows)
	}
	at := func(text string) time.Time {
		k.Helper()
		parsed, err := time.Parse(time.RFC3339, text)
		if err != nil {
			k.Error(err)
		}
		return parsed
	}
	if delay := at(rows[3][5]).Sub(at(rows[3][4])); delay != 10*time.Minute {
		k.Errorf("active after %s", delay)
	}
	// What may be made with it until the successor is active: an access token of an hour, 5 s, 10 s, and 15 min of a clock that steps; a session of 400 days; and a day.
	if kept := at(rows[2][6]).Sub(at(signing[3])); kept != 25*time.Hour+15*time.Minute+15*time.Second {
		k.Errorf("a signing key is kept for %s", kept)
	}
	if kept := at(rows[0][6]).Sub(at(sealing[3])); kept != 401*24*time.Hour {
		k.Errorf("a sealing key is kept for %s", kept)
	}
	if rows[1][6] != "-" || rows[3][6] != "-" {
		k.Errorf("the newest keys are deleted from %s and %s", rows[1][6], rows[3][6])
	}

	out, err = k.rotate()
	if err == nil || out != "" || strings.Count(err.Error(), "\n") != 1 {
		k.Fatalf("a second time: %v, printed %q", err, out)
	}
	for _, m := range made {
		if want := fmt.Sprintf("generation 2 of the %s key (%s) is published and becomes active at %s", m[1], m[2], m[3]); !strings.Contains(err.Error(), want) {
			k.Errorf("error %v, want one with %q", err, want)
		}
	}

	k.advance(10 * time.Minute)
	k.want("sealing 1 retired", "sealing 2 in use", "signing 1 retired", "signing 2 in use")
	if out, err = k.rotate(); err != nil || strings.Count(out, "made generation 3") != 2 {
		k.Errorf("%v, printed %q", err, out)
	}
}

func (k *keyTest) oneKind() {
	k.serve()
	if out, err := k.rotate("--kind", "sealing"); err != nil || strings.Count(out, "\n") != 1 {
		k.Errorf("%v, printed %q", err, out)
	}
	k.want("sealing 1 in use", "sealing 2 published", "signing 1 in use")
	// What can be made is made, and what cannot is the error.
	if out, err := k.rotate(); err == nil || !strings.Contains(err.Error(), "sealing") || strings.Contains(err.Error(), "signing") || !strings.Contains(out, "of the signing key") {
		k.Errorf("%v, printed %q", err, out)
	}
	if _, err := k.rotate("--kind", "both,signing"); err == nil || !strings.Contains(err.Error(), "signing") {
		k.Errorf("an unknown kind: %v", err)
	}
}

// wrappers are the distinct key-encryption keys of all keys.
func (k *keyTest) wrappers() (all []string) {
	k.Helper()
	for _, row := range k.listed() {
		all = append(all, row[7])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (k *keyTest) rewrap() {
	k.serve()
	old := k.wrappers()
	both := k.environ(withKey(otherKey), "SESSIONGATE_KEY_PREVIOUS="+testKey)

	// During the rollout: what is made is for those, too, who have the old one alone.
	if out, err := run(k.T, both, "keys", "rotate"); err != nil || !slices.Equal(k.wrappers(), old) {
		k.Fatalf("%v, printed %q; wrapped under %q, want %q alone", err, out, k.wrappers(), old)
	}
	if out, err := run(k.T, k.environ(withKey(otherKey)), "keys", "rewrap"); err == nil || out != "" || strings.Count(err.Error(), "is wrapped under key-encryption key "+old[0]) != 4 {
		k.Errorf("without the old one: %v, printed %q", err, out)
	}
	for _, want := range []string{"rewrapped 4 of 4 keys\n", "rewrapped 0 of 4 keys\n"} {
		out, err := run(k.T, both, "keys", "rewrap")
		if err != nil || !strings.HasPrefix(out, want) {
			k.Errorf("%v, printed %q, want %q", err, out, want)
		}
	}
	if now := k.wrappers(); len(now) != 1 || now[0] == old[0] {
		k.Fatalf("wrapped under %q, before under %q", now, old)
	}
	k.advance(10 * time.Minute)
	if _, err := k.rotate(); err == nil || !strings.Contains(err.Error(), "not under the given "+old[0]) {
		k.Errorf("with the old one alone: %v", err)
	}
	if _, err := run(k.T, k.environ(withKey(otherKey)), "keys", "rotate"); err != nil {
		k.Errorf("with the new one alone: %v", err)
	}
	if now := k.wrappers(); len(now) != 1 || now[0] == old[0] {
		k.Errorf("wrapped under %q", now)
	}
}

func (k *keyTest) wrongKey() {
	k.serve()
	before := k.listed()
	for _, command := range []string{"rotate", "rewrap"} {
		for _, tc := range []struct {
			environ []string
			want    string
		}{
			{nil, "key: found no key-encryption key; allowed: SESSIONGATE_KEY, or key_file"},
			{[]string{withKey("short")}, "SESSIONGATE_KEY: key: found"},
			{[]string{withKey(otherKey)}, "signing key " + before[1][2] + " is wrapped under key-encryption key " + before[1][7] + ", not under the given"},
			{[]string{withKey(otherKey), "SESSIONGATE_KEY_PREVIOUS=" + otherKey}, "or the previous"},
			{[]string{"SESSIONGATE_KEY_FILE=/nowhere/key"}, "SESSIONGATE_KEY_FILE: key_file: found open /nowhere/key"},
		} {
			out, err := run(k.T, k.environ(tc.environ...), "keys", command)
			if err == nil || !strings.Contains(err.Error(), tc.want) || out != "" || strings.Contains(err.Error(), otherKey) {
				k.Errorf("%s: error %v, printed %q; want an error with %q", command, err, out, tc.want)
			}
		}
	}
	for i, row := range k.listed() {
		if !slices.Equal(row, before[i]) {
			k.Errorf("%q became %q", before[i], row)
		}
	}
}

func (k *keyTest) none() {
	k.want()
	if _, err := k.rotate(); err == nil || !strings.Contains(err.Error(), "there is no signing key yet; the first process that serves makes it") {
		k.Error(err)
	}
	if out, err := run(k.T, k.environ(withKey(testKey)), "keys", "rewrap"); err != nil || !strings.HasPrefix(out, "rewrapped 0 of 0 keys\n") {
		k.Errorf("%v, printed %q", err, out)
	}
}

// atOnce: of many, one makes each generation, and each other one says whose it is.
func (k *keyTest) atOnce() {
	k.serve()
	var all sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 8 {
		all.Go(func() {
			out, err := k.rotate()
			mu.Lock()
			defer mu.Unlock()
			made += strings.Count(out, "made generation 2")
			if n := strings.Count(out, "\n"); err == nil != (n == 2) || err != nil && strings.Count(err.Error(), "is published and becomes active at") != 2-n {
				k.Errorf("%v, printed %q", err, out)
			}
		})
	}
	all.Wait()
	if made != 2 {
		k.Errorf("%d made", made)
	}
	k.want("sealing 1 in use", "sealing 2 published", "signing 1 in use", "signing 2 published")
	for range 8 {
		all.Go(func() {
			if _, err := run(k.T, k.environ(withKey(otherKey), "SESSIONGATE_KEY_PREVIOUS="+testKey), "keys", "rewrap"); err != nil {
				k.Error(err)
			}
		})
	}
	all.Wait()
	if now := k.wrappers(); len(now) != 1 {
		k.Errorf("wrapped under %q", now)
	}
}

// No command on keys prints key material, and each says what it needs.
func TestKeyCommandsWithoutDatabase(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close() // nothing answers there any more
	away := "SESSIONGATE_DATABASE_URL=postgres://u:" + testSecret + "@" + l.Addr().String() + "/d"
	for _, args := range [][]string{{"keys", "list"}, {"keys", "rotate"}, {"keys", "rewrap"}} {
		_, err := run(t, []string{withKey(testKey)}, args...)
		if all := faultsOf(t, err); len(all) != 1 || all[0].Key != "database.url" {
			t.Errorf("%v without a database: %v", args, err)
		}
		out, err := run(t, []string{withKey(testKey), away}, args...)
		if err == nil || !strings.Contains(err.Error(), "connect") || out != "" || strings.Contains(err.Error(), testSecret) {
			t.Errorf("%v with the database away: %v, printed %q", args, err, out)
		}
	}
}

// What `keys list` prints holds nothing of a key, wrapped or not.
func TestListHoldsNoKeyMaterial(t *testing.T) {
	t.Parallel()
	wrapped := []byte("0123456789abcdefghijklmnopqrstuv")
	var out strings.Builder
	set := sessions.KeySet{Keys: []sessions.StoredKey{{Kind: sessions.KeySigning, Generation: 1, Wrapped: wrapped}}}
	if err := writeKeys(&out, set); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{string(wrapped), hex.EncodeToString(wrapped), base64.StdEncoding.EncodeToString(wrapped)} {
		if strings.Contains(out.String(), form) {
			t.Errorf("printed %q", out.String())
		}
	}
}
