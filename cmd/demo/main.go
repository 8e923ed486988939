// Command demo shows what sessiongate does. It starts a real Postgres, two
// sessiongate processes, the demo app and a real Envoy on free ports of this
// machine and plays a journey through them, as HTTP requests that a browser, a
// script and a thief would send. Then it leaves the page up until Ctrl-C.
//
// It promises that its output is the same each time (but for the page's address),
// that exit code 0 means that every answer was as promised, and that nothing it
// started outlives it, however it ends; what a killed demo leaves is a few
// files under the temporary directory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	// The first signal stops everything in order; a second one has its default effect.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], newReport(os.Stdout), os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		_, _ = fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run plays the demo. Progress that differs from run to run, such as a download's,
// goes to stderr.
func run(ctx context.Context, args []string, out *report, stderr io.Writer) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	once := flags.Bool("once", false, "end after the journey")
	base := flags.String("url", "", "only play the journey, against what runs at this `URL` already (docker compose: http://localhost:10000)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if *base != "" {
		u, err := url.Parse(*base)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("-url must be an http or https URL, not %q", *base)
		}
		return play(ctx, out, strings.TrimSuffix(*base, "/"), journey())
	}

	s, err := startStack(ctx, out, stderr)
	if err == nil {
		err = play(ctx, out, s.url(), append(journey(), outage(s.database)...))
	}
	if err == nil {
		err = s.examine(ctx, out)
	}
	if err == nil && !*once {
		out.linef("")
		out.linef("The page: %s   Any name signs in. Ctrl-C stops everything.", s.page)
		out.linef("The audit: tail -f %s", s.auditFile())
		out.linef("The numbers: http://%s/metrics", s.gates[len(s.gates)-1].Internal) // no switch kills this one
		err = s.watch(ctx)
	}
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted")
	} else if err != nil {
		s.writeTails(stderr)
	}
	return errors.Join(err, s.stop()) //nolint:contextcheck // ctx has ended: that is why it stops
}
