package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/sessiongate/sessiongate/internal/settings"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

type keysCmd struct {
	New    keysNewCmd    `cmd:"" help:"Make a new random 256-bit secret: a key-encryption key, or a secret for an API caller."`
	List   keysListCmd   `cmd:"" help:"List the keys in the database, without any secret. Needs the database alone."`
	Rotate keysRotateCmd `cmd:"" help:"Make the next signing and sealing key now. No user is signed out, nothing is restarted."`
	Rewrap keysRewrapCmd `cmd:"" help:"Wrap the keys in the database under the new key-encryption key (key), once every replica has it and the old one (key_previous)."`
	Digest keysDigestCmd `cmd:"" help:"Print the SHA-256 of an API caller's secret, for api.key_hashes."`
}

type keysNewCmd struct {
	Mode fileMode `default:"0400" help:"Permissions of the files (${default})." placeholder:"OCTAL"`

	Files []string `arg:"" help:"Files to write a secret into, each its own; one that exists is kept. Without any, one secret is printed." name:"file" optional:""`
}

// Run implements the command. Standard output gets a secret only where no file
// is named.
func (k keysNewCmd) Run(p process) error {
	if len(k.Files) == 0 {
		_, err := fmt.Fprintln(p.stdout, newSecret())
		return err
	}
	var errs []error
	for _, file := range k.Files {
		errs = append(errs, writeSecret(p.stdout, file, fs.FileMode(k.Mode)))
	}
	return errors.Join(errs...)
}

// fileMode is written in octal, as chmod takes it.
type fileMode fs.FileMode

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *fileMode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || fs.FileMode(n)&^fs.ModePerm != 0 || n&0o400 == 0 {
		return fmt.Errorf("found %q; allowed: octal permissions that let the owner read, such as 0400", text)
	}
	*m = fileMode(n)
	return nil
}

// newSecret is 256 random bits in standard base64.
func newSecret() string {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	return base64.StdEncoding.EncodeToString(secret[:])
}

// writeSecret makes file with a new secret, or keeps the one that is there. The
// file appears whole or not at all, and of several processes that do this at
// once one wins: hard links are never made over an existing name.
func writeSecret(w io.Writer, file string, mode fs.FileMode) error {
	err := createWhole(file, newSecret()+"\n", mode)
	if errors.Is(err, fs.ErrExist) {
		return keepSecret(w, file)
	}
	if err != nil {
		return fmt.Errorf("writing secret into %s: %w", file, settings.Reason(err))
	}
	_, err = fmt.Fprintf(w, "made %s: a new 256-bit secret, mode %04o\n", file, mode)
	return err
}

// keepSecret refuses to call kept what no process could work with.
func keepSecret(w io.Writer, file string) error {
	switch info, err := os.Stat(file); {
	case err != nil:
		return fmt.Errorf("keeping secret: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("keeping secret: %s is no regular file", file)
	case info.Size() == 0:
		return fmt.Errorf("keeping secret: %s is empty; delete it first", file)
	}
	_, err := fmt.Fprintf(w, "kept %s: it exists\n", file)
	return err
}

func createWhole(file, content string, mode fs.FileMode) (err error) {
	if _, err := os.Lstat(file); err == nil {
		return fs.ErrExist
	}
	dir := filepath.Dir(file)
	temporary, err := os.CreateTemp(dir, ".sessiongate-*") // O_EXCL, 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(temporary.Name())) }()
	_, err = temporary.WriteString(content)
	err = errors.Join(err, temporary.Chmod(mode), temporary.Sync())
	if err = errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	if err := os.Link(temporary.Name(), file); err != nil {
		return err
	}
	return syncDir(dir)
}

type keysDigestCmd struct {
	File string `arg:"" help:"File that holds the secret."`
}

// Run implements the command.
func (k keysDigestCmd) Run(p process) error {
	secret, err := readSecretFile(k.File)
	if err != nil {
		return fmt.Errorf("reading secret: %w", err)
	}
	if !isAPISecret(secret) {
		return fmt.Errorf("unfit content (not shown) in %q; allowed: %s", k.File, allowedAPISecret)
	}
	_, err = fmt.Fprintln(p.stdout, sessionhttp.DigestKey(secret))
	return err
}
