package main

import (
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// The scripts ask the program itself what may come next (sessiongate complete -- WORD...). So they
// say what the program that is installed can do, and no script has a list that gets old.
//
//go:embed completion/sessiongate.bash
var bashCompletion string

//go:embed completion/sessiongate.zsh
var zshCompletion string

//go:embed completion/sessiongate.fish
var fishCompletion string

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"One of ${enum}."`
}

// Run implements the command.
func (k completionCmd) Run(p process) error {
	_, err := io.WriteString(p.stdout, map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[k.Shell])
	return err
}

// completeCmd is what the scripts call.
type completeCmd struct {
	Words []string `arg:"" help:"The words after the program's name; the last one is completed, and may be empty." optional:""`
}

// Run implements the command.
func (k completeCmd) Run(p process, c *kong.Context) error {
	for _, line := range complete(c.Model.Node, k.Words) {
		if _, err := fmt.Fprintln(p.stdout, line); err != nil {
			return err
		}
	}
	return nil
}

// completeFiles is the line that stands for the names of files, which the shell knows better.
const completeFiles = ":files"

// complete gives what may stand in place of the last word: each a word, a tab and what it means, or
// [completeFiles]. It gives nothing where it knows nothing.
func complete(at *kong.Node, words []string) (lines []string) {
	if len(words) == 0 {
		words = []string{""}
	}
	done, word := words[:len(words)-1], words[len(words)-1]
	var (
		used     []string
		position int  // of the next argument
		plain    bool // after "--" every word is an argument
		wants    *kong.Value
	)
	for _, w := range done {
		name, _, hasValue := strings.Cut(w, "=")
		flag := flagNamed(at, name)
		switch {
		case wants != nil:
			wants = nil
		case plain:
			position++
		case w == "--":
			plain = true
		case flag != nil:
			used = append(used, flag.Name)
			if !hasValue && !flag.IsBool() {
				wants = flag.Value
			}
		case strings.HasPrefix(w, "-"): // an unknown one has no value
		default:
			if child := childNamed(at, w); child != nil && position == 0 {
				at = child
			} else {
				position++
			}
		}
	}
	if wants != nil {
		return values(wants, "")
	}
	if name, _, ok := strings.Cut(word, "="); ok && !plain && strings.HasPrefix(word, "-") {
		if flag := flagNamed(at, name); flag != nil {
			return values(flag.Value, name+"=")
		}
		return nil
	}
	if strings.HasPrefix(word, "-") && !plain {
		for _, flag := range flagsAt(at) {
			if !slices.Contains(used, flag.Name) || flag.IsSlice() {
				lines = append(lines, candidate("--"+flag.Name, flag.Help))
			}
		}
		return lines
	}
	if position == 0 && !plain {
		for _, child := range at.Children {
			if !child.Hidden {
				lines = append(lines, candidate(child.Name, child.Help))
			}
		}
	}
	switch args := at.Positional; {
	case position < len(args):
		lines = append(lines, values(args[position], "")...)
	case len(args) > 0 && args[len(args)-1].IsSlice():
		lines = append(lines, values(args[len(args)-1], "")...)
	}
	return lines
}

// candidate is a word and the first sentence of its help.
func candidate(word, help string) string {
	sentence, _, _ := strings.Cut(help, ". ")
	return word + "\t" + strings.TrimSuffix(sentence, ".")
}

// values are what a flag or an argument may be, as far as that is known.
func values(of *kong.Value, prefix string) (lines []string) {
	if namesFile(of) {
		return []string{completeFiles}
	}
	if of.Enum != "" {
		for _, value := range of.EnumSlice() {
			lines = append(lines, candidate(prefix+value, ""))
		}
	}
	return lines
}

// namesFile: in this program's help, what names a file is called so.
func namesFile(v *kong.Value) bool {
	if v.Flag == nil {
		return v.Name == "file"
	}
	return slices.Contains(strings.Split(v.Flag.PlaceHolder, "|"), "FILE")
}

// flagsAt are the flags that may stand after a command: its own, those of the commands before it, and
// those of the command that it stands for where none is named.
func flagsAt(at *kong.Node) (all []*kong.Flag) {
	if at.DefaultCmd != nil {
		all = append(all, at.DefaultCmd.Flags...)
	}
	for ; at != nil; at = at.Parent {
		for _, flag := range at.Flags {
			if !flag.Hidden {
				all = append(all, flag)
			}
		}
	}
	return all
}

func flagNamed(at *kong.Node, word string) *kong.Flag {
	for _, flag := range flagsAt(at) {
		if word == "--"+flag.Name || (flag.Short != 0 && word == "-"+string(flag.Short)) {
			return flag
		}
	}
	return nil
}

func childNamed(at *kong.Node, word string) *kong.Node {
	for _, child := range at.Children {
		if child.Name == word {
			return child
		}
	}
	return nil
}
