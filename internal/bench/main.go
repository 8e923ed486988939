// Command bench measures sessiongate side by side with others, on this machine and in one run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// bench is what the parts share.
type bench struct {
	rounds      int
	turn        time.Duration
	dir         string // for files of the run
	quick       bool   // proves that it runs; the numbers mean nothing
	full        bool   // also what takes long
	sessiongate string // path of the built binary
}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == bareCommand {
		return serveBare(ctx, args[1], args[2])
	}
	b := &bench{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "")
	flags.IntVar(&b.rounds, "rounds", 7, "")
	flags.DurationVar(&b.turn, "turn", time.Second, "")
	flags.BoolVar(&b.quick, "quick", false, "")
	flags.BoolVar(&b.full, "full", false, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if b.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	b.sessiongate = filepath.Join(b.dir, "sessiongate")
	build := exec.Command("go", "build", "-trimpath", "-o", b.sessiongate, "github.com/sessiongate/sessiongate/cmd/sessiongate")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	for _, p := range storeParts {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), p.name) {
			continue
		}
		results, err := p.run(ctx, b)
		if err != nil {
			return err
		}
		for _, r := range results {
			fmt.Println("\n## " + r.title + "\n" + r.why + "\n")
			fmt.Println("| " + strings.Join(r.head, " | ") + " |")
			for _, row := range r.rows {
				fmt.Println("| " + strings.Join(row, " | ") + " |")
			}
		}
	}
	return nil
}
