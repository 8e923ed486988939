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
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/sessiongate/sessiongate/sessions/postgres"
)

func main() {
	// The first signal stops gently; a second one has its default effect.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	p := process{ctx: ctx, environ: os.Environ(), stdout: os.Stdout, stderr: os.Stderr}

	var c commands
	command := kong.Parse(&c,
		kong.Name("sessiongate"),
		kong.Description("Sessions for whatever stands behind Envoy."),
		kong.Vars{"version": version()},
		kong.UsageOnError(),
		kong.Bind(p, &c),
	)
	if err := command.Run(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(exitStatus(err))
	}
}

// exitStatus is 1 unless the error has one of its own.
func exitStatus(err error) int {
	if own := kong.ExitCoder(nil); errors.As(err, &own) {
		return own.ExitCode()
	}
	return 1
}

// process is what a command takes from and gives to the outside.
type process struct {
	ctx            context.Context //nolint:containedctx // lives as long as the command
	environ        []string
	stdout, stderr io.Writer
}

type commands struct {
	ConfigFile string `help:"Configuration file (YAML); or name it in SESSIONGATE_CONFIG. Optional: every setting is an environment variable too." name:"config" placeholder:"FILE"`

	Version kong.VersionFlag `help:"Print the version."`

	Serve       serveCmd       `cmd:"" help:"Serve Envoy, browsers and backends until SIGTERM or SIGINT."`
	Migrate     migrateCmd     `cmd:"" help:"Bring the database's schema up to date."`
	Config      configCmd      `cmd:"" help:"Print the configuration in effect, with secrets redacted; or explain which policy a request meets."`
	Sessions    sessionsCmd    `cmd:"" help:"End sessions in the database."`
	Keys        keysCmd        `cmd:"" help:"Make secrets; list, rotate and rewrap the keys in the database."`
	Metrics     metricsCmd     `cmd:"" help:"Print the page of the metrics (Markdown)."`
	Denials     denialsCmd     `cmd:"" help:"Print the page of the codes of denials and refusals (Markdown)."`
	Profile     profileCmd     `cmd:"" help:"Write a profile of the running process to standard output (profiling.listen)."`
	Healthcheck healthcheckCmd `cmd:"" help:"Ask the running process whether it is ready; exit 0 or 1."`
}

type serveCmd struct{}

// Run implements the command.
func (serveCmd) Run(c *commands, p process) error {
	config, from, err := load(c.ConfigFile, p.environ, forServe)
	if err != nil {
		return err
	}
	creds, credsErr := credentials(config, from)
	certs, certsErr := certificates(config, from, time.Now())
	out, auditErr := auditOutput(config, from, p.stdout)
	if err := errors.Join(credsErr, certsErr, auditErr); err != nil {
		return err
	}
	return serve(p.ctx, config, creds, certs, out, newLogger(p.stderr, config))
}

type migrateCmd struct{}

// Run implements the command.
func (migrateCmd) Run(c *commands, p process) error {
	config, store, err := openDatabase(c, p)
	if err != nil {
		return err
	}
	defer store.Close()
	return migrate(p.ctx, store, newLogger(p.stderr, config))
}

// openDatabase is for a command that needs the database alone, and should be given no
// other secret.
func openDatabase(c *commands, p process) (Config, *postgres.Store, error) {
	config, from, err := load(c.ConfigFile, p.environ, forMigrate)
	if err != nil {
		return Config{}, nil, err
	}
	creds, err := credentials(Config{Database: config.Database}, from)
	if err != nil {
		return Config{}, nil, err
	}
	store, err := openStore(p.ctx, config, creds)
	return config, store, err
}

type configCmd struct {
	Print configPrintCmd `cmd:"" default:"withargs" help:"Print the configuration in effect, with secrets redacted. The default."`

	Explain configExplainCmd `cmd:"" help:"Print which policy a request meets, and why."`
}

type configPrintCmd struct {
	Reference bool `help:"Print the reference page of all settings instead (Markdown)."`
}

// Run implements the command.
func (k configPrintCmd) Run(c *commands, p process) error {
	if k.Reference {
		return writeReference(p.stdout)
	}
	config, from, err := load(c.ConfigFile, p.environ)
	if err != nil {
		return err
	}
	return writeConfig(p.stdout, config, from)
}

type metricsCmd struct{}

// Run implements the command.
func (metricsCmd) Run(p process) error { return writeMetrics(p.stdout) }

type denialsCmd struct{}

// Run implements the command.
func (denialsCmd) Run(p process) error { return writeDenials(p.stdout) }

// newLogger logs as the configuration says, which has only known values.
func newLogger(w io.Writer, c Config) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Log.Level))
	options := &slog.HandlerOptions{Level: level}
	if c.Log.Format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// version is the module's version and the commit it was built from, as far as
// the build knows them.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	words := []string{info.Main.Version}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			words = append(words, s.Value)
		}
	}
	return strings.Join(append(words, info.GoVersion), " ")
}
