package main

import (
	"errors"
	"time"

	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

type serveCmd struct{}

// Run implements the command.
func (serveCmd) Run(f *flags, p process) error {
	config, from, err := load(f.ConfigFile, p.environ, forServe)
	if err != nil {
		return err
	}
	creds, credsErr := credentials(config, from)
	certs, certsErr := certificates(config, from, time.Now())
	out, auditErr := auditOutput(config, from, p.stdout)
	if err := errors.Join(credsErr, certsErr, auditErr); err != nil {
		return err
	}
	return serve(p.ctx, config, creds, certs, out, supervisor(variable(p.environ, supervisorVariable)), newLogger(p.stderr, config))
}

type migrateCmd struct{}

// Run implements the command.
func (migrateCmd) Run(f *flags, p process) error {
	config, store, err := openDatabase(f, p)
	if err != nil {
		return err
	}
	defer store.Close()
	return migrate(p.ctx, store, newLogger(p.stderr, config))
}

type configCmd struct {
	Print configPrintCmd `cmd:"" default:"withargs" help:"Print the configuration in effect, with secrets redacted. The default."`

	Schema configSchemaCmd `cmd:"" help:"Print a JSON Schema of the configuration file, for editors."`

	Explain configExplainCmd `cmd:"" help:"Print which policy a request meets, and why."`
}

type configPrintCmd struct {
	Reference bool `help:"Print the reference page of all settings instead (Markdown)."`
}

// Run implements the command.
func (k configPrintCmd) Run(f *flags, p process) error {
	if k.Reference {
		return writeReference(p.stdout)
	}
	config, from, err := load(f.ConfigFile, p.environ)
	if err != nil {
		return err
	}
	return table(&config).Print(p.stdout, from)
}

type configSchemaCmd struct{}

// Run implements the command.
func (configSchemaCmd) Run(p process) error { return writeSchema(p.stdout) }

type metricsCmd struct{}

// Run implements the command.
func (metricsCmd) Run(p process) error { return writeMetrics(p.stdout) }

type openAPICmd struct{}

// Run implements the command.
func (openAPICmd) Run(p process) error {
	_, err := p.stdout.Write(sessionhttp.OpenAPI())
	return err
}

type denialsCmd struct{}

// Run implements the command.
func (denialsCmd) Run(p process) error { return writeDenials(p.stdout) }
