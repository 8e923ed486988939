// Command bench measures sessiongate side by side with others, on this machine and in one run.
//
// Its numbers are ratios: how fast a machine is, and what else it does, is in both sides of a ratio.
// So the contenders take turns, and each ratio is taken within one round (contest.go).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// patience bounds what must happen.
const patience = 30 * time.Second

// selfEnv makes a program that contains this one, also a test, act as a child of the benchmark.
const selfEnv = "SESSIONGATE_BENCH_CHILD"

// parts are the sections of a run, in their order.
var parts = []part{
	{"check", "Check alone", checkPart, "performance.md"},
	{"envoy", "through the real Envoy", envoyPart, "performance.md"},
	{"memory", "cached tokens and ended sessions", memoryPart, "performance.md"},
	{"refresh", "refresh, sign-in, sign-out and promotion", refreshPart, "performance.md"},
	{"audit", "what the audit costs", auditPart, "performance.md"},
	{"bound", "what a bound session costs", boundPart, "performance.md"},
	{"store", "the store's statements and pgbench's", storePart, "performance.md"},
	{"start", "starts, migrations and the size of tables", startPart, "performance.md"},
	{"capacity", "what one primary carries, and what it writes", capacityPart, "capacity.md"},
}

// asked are parts that run only where -only names them.
var asked = []part{
	{"peers", "Check beside the servers of other projects, which are built from 200 MB of modules", peersPart, "performance-peers.md"},
}

// bench is what the parts share.
type bench struct {
	rounds      int
	turn        time.Duration
	dir         string    // for files of the run
	quick       bool      // proves that it runs; the numbers mean nothing
	full        bool      // also what takes long
	sessiongate string    // path of the built binary
	out         io.Writer // what is done now, and the tables

	self        string // path of this program
	key, apiKey string // of all sessiongate processes
	files       int    // in dir
	databases   int
	postgres    *cluster.Cluster // nil until a part asks for a database
	// serverCore is that of what is measured, clientCore that of the load generator.
	serverCore, clientCore int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	if os.Getenv(selfEnv) != "" {
		return serveSelf(ctx, args)
	}
	if len(args) == 1 && args[0] == "record" {
		return recordAll(ctx, filepath.Join("internal", "bench", "testdata"))
	}
	b := &bench{out: out, key: secret(), apiKey: secret()}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(out)
	only := flags.String("only", "", "parts to run, with commas between: "+names())
	docs := flags.String("docs", "docs", "folder with performance.md, performance-peers.md and capacity.md, which get the tables and plots; empty: print only")
	into := flags.String("profile", "", "write a CPU profile to this file, and measure nothing: of Checks, or with -only refresh of that part; arguments: the kinds of Check, or the steps")
	flags.StringVar(&b.sessiongate, "sessiongate", "", "binary to measure; empty: build the one of this checkout")
	flags.IntVar(&b.rounds, "rounds", 7, "rounds that count; one more warms up")
	flags.DurationVar(&b.turn, "turn", time.Second, "length of one turn")
	flags.BoolVar(&b.quick, "quick", false, "prove that it runs: one round of tiny turns and little data")
	flags.BoolVar(&b.full, "full", false, "also what takes long: ten million rows")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("reading flags: %w", err)
	}
	if b.quick {
		b.rounds, b.turn = 1, 50*time.Millisecond
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if *into != "" {
		if *only == "refresh" {
			return profileRefreshes(ctx, b, *into, flags.Args())
		}
		return profile(ctx, b, *into, flags.Args())
	}
	page := report{machine: machine(ctx, b)}
	for _, p := range chosen {
		_, _ = fmt.Fprintf(out, "\n%s: %s\n", p.name, p.doc)
		results, err := p.run(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		for _, r := range results {
			_, _ = fmt.Fprint(out, "\n", r.markdown())
		}
		if *docs == "" || b.quick {
			continue
		}
		if err := page.write(*docs, p, results); err != nil {
			return err
		}
	}
	return nil
}

// serveSelf is this program as a server that is measured: COMMAND, and two arguments of it.
func serveSelf(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("serving for the benchmark: found %q", args)
	}
	if args[0] == bareCommand {
		return serveBare(ctx, args[1], args[2])
	}
	return allowAll(ctx, args[1], args[2])
}

func names() string {
	var all []string
	for _, p := range slices.Concat(parts, asked) {
		all = append(all, p.name)
	}
	return strings.Join(all, ", ")
}

// choose are the parts of a list of names; all but the asked ones where it is empty.
func choose(only string) ([]part, error) {
	if only == "" {
		return parts, nil
	}
	all := slices.Concat(parts, asked)
	var chosen []part
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only: there is no part %q; allowed are %s", name, names())
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// prepare makes what all parts need.
func (b *bench) prepare(ctx context.Context) error {
	cores, err := allCores()
	if err != nil {
		return err
	}
	b.serverCore, b.clientCore = cores[0], cores[len(cores)-1]
	if b.serverCore == b.clientCore && !b.quick {
		return errors.New("there is one core: the server under test and the load generator need one each")
	}
	if b.self, err = os.Executable(); err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	if b.dir, err = os.MkdirTemp("", "sessiongate-bench-"); err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	if b.sessiongate != "" {
		return nil
	}
	b.sessiongate = filepath.Join(b.dir, "sessiongate")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.sessiongate, "github.com/sessiongate/sessiongate/cmd/sessiongate")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("building sessiongate: %w\n%s", err, text), os.RemoveAll(b.dir))
	}
	return nil
}

func (b *bench) close() error {
	if b.postgres != nil {
		b.postgres.Stop()
	}
	return os.RemoveAll(b.dir)
}

// database creates an empty database and returns its address.
func (b *bench) database(ctx context.Context) (string, error) {
	if b.postgres == nil {
		var err error
		if b.postgres, err = cluster.Start(ctx, cluster.Options{}); err != nil {
			return "", fmt.Errorf("starting Postgres: %w", err)
		}
	}
	b.databases++
	name := fmt.Sprintf("bench_%d", b.databases)
	if err := b.postgres.CreateDatabase(ctx, name, ""); err != nil {
		return "", err
	}
	return b.postgres.URL(name), nil
}

// apart keeps this process, the load generator, off the server's core until the returned function is
// called.
func (b *bench) apart() (together func() error, err error) {
	cores, err := allCores()
	if err != nil {
		return nil, err
	}
	if err := pin(os.Getpid(), b.clientCore); err != nil {
		return nil, err
	}
	return func() error { return pin(os.Getpid(), cores...) }, nil
}
