// Command sessiongate is the process beside Envoy: it owns the configuration,
// the wiring of the packages, the listeners, the order of start and stop, logs,
// and health. What a session is and may do is decided in
// [github.com/sessiongate/sessiongate/sessions].
//
// It starts only on a configuration without any fault, and no secret of it
// appears in an output, a log line or an error.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	// The first signal stops gently; a second one has its default effect.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	p := process{ctx: ctx, environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}

	var c commands
	command := kong.Parse(&c, grammar(&c, p)...)
	if err := command.Run(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(exitStatus(err))
	}
}

// grammar is what the command line says beside its fields.
func grammar(c *commands, p process) []kong.Option {
	return []kong.Option{
		kong.Name("sessiongate"),
		kong.Description("Sessions for the services behind Envoy."),
		kong.Vars{"version": version()},
		kong.Bind(p, &c.flags),
	}
}

// exitStatus is 1 unless the error has one of its own.
func exitStatus(err error) int {
	if own := kong.ExitCoder(nil); errors.As(err, &own) {
		return own.ExitCode()
	}
	return 1
}

type commands struct {
	flags

	PrintVersion kong.VersionFlag `help:"Print the version in one line." name:"version"`

	Serve       serveCmd       `cmd:"" help:"Serve Envoy, browsers and backends until SIGTERM or SIGINT."`
	Dev         devCmd         `cmd:"" help:"Run all of it in one process in front of your app, for development only."`
	Migrate     migrateCmd     `cmd:"" help:"Bring the database's schema up to date."`
	Config      configCmd      `cmd:"" help:"Print the configuration in effect, with secrets redacted; or explain which policy a request meets."`
	Sessions    sessionsCmd    `cmd:"" help:"End sessions in the database."`
	Keys        keysCmd        `cmd:"" help:"Make secrets; list, rotate and rewrap the keys in the database."`
	Doctor      doctorCmd      `cmd:"" help:"Look for what makes the Envoy in front of it unsafe, and say how to cure it."`
	Envoy       envoyCmd       `cmd:"" help:"Put what sessiongate needs into a configuration of Envoy."`
	Metrics     metricsCmd     `cmd:"" help:"Print the page of the metrics (Markdown)."`
	Denials     denialsCmd     `cmd:"" help:"Print the page of the codes of denials and refusals (Markdown)."`
	OpenAPI     openAPICmd     `cmd:"" help:"Print the description of the sessions API (OpenAPI 3.1)."                                           name:"openapi"`
	Profile     profileCmd     `cmd:"" help:"Write a profile of the running process to standard output (profiling.listen)."`
	Healthcheck healthcheckCmd `cmd:"" help:"Ask the running process whether it is ready; exit 0 or 1."`
	Version     versionCmd     `cmd:"" help:"Print the version, and what it was built from and for."`
	Completion  completionCmd  `cmd:"" help:"Print the completion of a shell: how to install it stands in its first lines."`
	Complete    completeCmd    `cmd:"" help:"Print what may come next on a command line."                                                        hidden:""`
	Man         manCmd         `cmd:"" help:"Print the manual page (roff)."`
}
