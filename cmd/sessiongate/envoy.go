package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sessiongate/sessiongate/envoy/doctor"
)

type envoyCmd struct {
	Patch envoyPatchCmd `cmd:"" help:"Put what sessiongate needs into a bootstrap file of Envoy, and print it."`
}

type envoyPatchCmd struct {
	File string `arg:"" help:"Envoy's bootstrap file (YAML or JSON)."`

	Write bool `help:"Write the file in place instead of printing it." short:"w"`

	Authz string `help:"Where Envoy reaches listen.authz; without it, sessiongate:9001." placeholder:"HOST:PORT"`

	Public string `help:"Where Envoy reaches listen.public; without it, sessiongate:9002." placeholder:"HOST:PORT"`

	Cluster string `help:"Envoy's cluster of the check, where it has one that is not named sessiongate." placeholder:"NAME"`
}

// Help implements [kong.HelpProvider].
func (envoyPatchCmd) Help() string {
	return "It adds what docs/guides/envoy.md adds, where that is missing, and leaves all else as it was. What is left to do goes to standard error. " +
		"Exit status: 0 where the doctor finds nothing in the result; 1 where it does; 2 where the file cannot be patched, or the doctor cannot look at everything."
}

// Run implements the command.
func (k envoyPatchCmd) Run(f *flags, p process) error {
	config, _, err := load(f.ConfigFile, p.environ)
	if err != nil {
		return &notLooked{err}
	}
	if k.Write && (k.File == "-" || isAddress(k.File)) {
		return &notLooked{errNotWritten}
	}
	text, err := readEnvoy(p, k.File)
	if err != nil {
		return &notLooked{err}
	}
	options := doctor.Options{Cluster: k.Cluster, AuthPath: config.HTTP.Cookies.AuthPath, SessionExpired: config.HTTP.SessionExpiredStatus}
	after, err := doctor.Patch(text, options, doctor.Addresses{Authz: k.Authz, Public: k.Public})
	if err != nil {
		return &notLooked{err}
	}
	report, err := doctor.Examine(after, options)
	if err != nil {
		return &notLooked{fmt.Errorf("looking at the patched file, which is not written: %w", err)}
	}
	source := k.File
	if k.Write {
		err = replaceFile(k.File, after)
	} else {
		source = "standard output" // the lines of the report are those of the patched file
		_, err = p.stdout.Write(after)
	}
	if err != nil {
		return &notLooked{err}
	}
	if len(report.Findings) == 0 && !report.Incomplete() {
		return nil
	}
	if err := writeReport(p.stderr, source, report); err != nil {
		return &notLooked{err}
	}
	if len(report.Findings) == 0 {
		return &notLooked{errIncomplete}
	}
	return foundFaults(len(report.Findings))
}

var errNotWritten = errors.New("-w writes a file in place: give its name")

// replaceFile writes a file that is there, whole or not at all: Envoy may watch it.
func replaceFile(link string, text []byte) error {
	name, err := filepath.EvalSymlinks(link) // a link stays one: others read what it leads to
	if err != nil {
		return fmt.Errorf("writing %s: %w", link, err)
	}
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	defer func() { _ = os.Remove(temporary.Name()) }() // gone already, if all went well
	if err := writeAll(temporary, text, info.Mode().Perm()); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := os.Rename(temporary.Name(), name); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

func writeAll(file *os.File, text []byte, mode os.FileMode) error {
	_, err := file.Write(text)
	if err == nil {
		err = file.Chmod(mode)
	}
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}
