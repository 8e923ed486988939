package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestShellsComplete types half a command line and a tab into a real shell at a terminal, and sees
// what the shell runs.
func TestShellsComplete(t *testing.T) {
	t.Parallel()
	for shell, args := range map[string][]string{"bash": {"--norc", "--noprofile", "-i"}, "zsh": {"-f", "-i"}, "fish": {"--no-config", "-i"}} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			program, err := exec.LookPath(shell)
			switch {
			case err != nil && shell != "bash" && os.Getenv("CI") == "":
				t.Skipf("there is no %s", shell)
			case err != nil:
				t.Fatalf("this test needs %s", shell)
			}
			terminal := shellIn(t, program, args...)
			script, err := run(t, nil, "completion", shell)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(terminal.dir, "script"), []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			if shell == "zsh" {
				terminal.enter("autoload -Uz compinit && compinit -D")
			}
			terminal.enter("source ./script")
			for typed, want := range map[string]string{
				"sessiongate healthc\t":                            "[healthcheck]",
				"sessiongate keys rot\t":                           "[keys] [rotate]",
				"sessiongate keys rotate --ki\t":                   "[keys] [rotate] [--kind]",
				"sessiongate keys rotate --kind sea\t":             "[keys] [rotate] [--kind] [sealing]",
				"sessiongate keys rotate --kind=sea\t":             "[keys] [rotate] [--kind=sealing]",
				"sessiongate prof\tgorou\t":                        "[profile] [goroutine]",
				"sessiongate --config only\tconf\tschem\t":         "[--config] [only-file.yaml] [config] [schema]",
				"sessiongate --config=only\t":                      "[--config=only-file.yaml]",
				"sessiongate config explain GET http://a/ --ext\t": "[config] [explain] [GET] [http://a/] [--extension]",
				"~/sessiongate healthc\t":                          "[healthcheck]",
				"sessiongate keys new '$(touch owned)' on\t":       "[keys] [new] [$(touch owned)] [only-file.yaml]",
			} {
				if got := terminal.enter(typed); got != want {
					t.Errorf("%q runs %q, want %q", typed, got, want)
				}
			}
			if _, err := os.Stat(filepath.Join(terminal.dir, "owned")); err == nil {
				t.Error("a tab ran what stood on the line")
			}
		})
	}
}

// A terminal is a shell at one. In its folder and home there is a program sessiongate that says how
// it was called, and a file.
type terminal struct {
	t     *testing.T
	dir   string
	file  *os.File
	lines *bufio.Scanner
}

func shellIn(t *testing.T, program string, args ...string) *terminal {
	t.Helper()
	dir := t.TempDir()
	wrapper := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = complete ] && %s=1 exec '%s' \"$@\"\necho; printf 'RAN'; printf ' [%%s]' \"$@\"; echo .\n", asProgram, os.Args[0])
	for name, text := range map[string]string{"sessiongate": wrapper, "only-file.yaml": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 250}); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), program, args...)
	c.Dir, c.Stdin, c.Stdout, c.Stderr = dir, slave, slave, slave
	c.Env = []string{"HOME=" + dir, "PATH=" + dir + ":/usr/bin:/bin", "TERM=xterm", "PS1=> ", "INPUTRC=/dev/null", "LC_ALL=C.UTF-8", "GORACE=atexit_sleep_ms=0"}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	t.Cleanup(func() {
		_ = master.Close() // hangs up
		_ = c.Wait()
	})
	return &terminal{t, dir, master, bufio.NewScanner(master)}
}

// enter types a line, and then the program without anything; it gives how the line called the
// program.
func (s *terminal) enter(typed string) (called string) {
	s.t.Helper()
	if _, err := s.file.WriteString(typed + "\nsessiongate end\n"); err != nil {
		s.t.Fatal(err)
	}
	var all strings.Builder
	for s.lines.Scan() {
		all.WriteString(s.lines.Text() + "\n")
		ran, ok := strings.CutPrefix(strings.TrimRight(s.lines.Text(), "\r"), "RAN ")
		if !ok {
			continue
		}
		ran, ok = strings.CutSuffix(ran, ".")
		switch {
		case !ok:
		case ran == "[end]":
			return called
		default:
			called = ran
		}
	}
	s.t.Fatalf("the shell is gone: %v\n%s", s.lines.Err(), all.String())
	return ""
}
