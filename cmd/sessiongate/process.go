package main

import (
	"context"
	"io"
	"log/slog"
)

// process is what a command takes from and gives to the outside.
type process struct {
	ctx            context.Context //nolint:containedctx // lives as long as the command
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// flags are those of every command.
type flags struct {
	ConfigFile string `help:"Configuration file (YAML); or name it in SESSIONGATE_CONFIG. Optional: every setting is an environment variable too." name:"config" placeholder:"FILE"`
}

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
