package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

type manCmd struct{}

// Run implements the command.
func (manCmd) Run(p process, c *kong.Context) error { return writeManual(p.stdout, c.Model, built()) }

// writeManual prints the manual page sessiongate(1), in the macros of man(7), from what --help is made of.
func writeManual(w io.Writer, app *kong.Application, b build) error {
	var page strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&page, format+"\n", args...) }
	date, _, _ := strings.Cut(b.Date, "T")
	if b.Date == unknown {
		date = ""
	}
	line(`.TH SESSIONGATE 1 %s %s "User commands"`, quoted(date), quoted("sessiongate "+b.Version))
	line(".SH NAME")
	line(`sessiongate \- %s`, roff(lowerFirst(strings.TrimSuffix(app.Help, "."))))
	line(".SH SYNOPSIS")
	line(`.B sessiongate`)
	line(`.I command`)
	line(`[\fIflags\fR]`)
	line(".SH DESCRIPTION")
	line("%s", roff("sessiongate keeps users signed in to any system behind Envoy: Envoy asks it about every request, and it answers allow, sign in first or refresh first."))
	line(".PP")
	line("%s", roff("Each setting is a line of the configuration file, or an environment variable, which wins: `sessiongate config --reference` lists them."))
	line(".SH OPTIONS")
	line("%s", roff("Every command takes these."))
	writeValues(line, app.Node)
	line(".SH COMMANDS")
	for _, command := range app.Leaves(true) {
		line(".SS %s", quoted("sessiongate "+strings.TrimPrefix(command.Path(), app.Name+" ")+arguments(command)))
		line("%s", roff(command.Help))
		if command.Detail != "" {
			line(".PP")
			line("%s", roff(command.Detail))
		}
		for of := command; of.Type != kong.ApplicationNode; of = of.Parent {
			writeValues(line, of)
		}
	}
	line(".SH EXIT STATUS")
	line(".TP\n.B 0\n%s", roff("It did what it was asked."))
	line(".TP\n.B 1\n%s", roff("It did not, or doctor has findings. Standard error says why. Of a faulty configuration it names every fault."))
	line(".TP\n.B 2\n%s", roff("doctor and envoy patch could not look at all of it."))
	line(".TP\n.B 3\n%s", roff("config explain: the request is denied to every client."))
	line(".TP\n.B 80\n%s", roff("The command line is faulty."))
	line(".SH ENVIRONMENT")
	line(".TP\n.B SESSIONGATE_CONFIG\n%s", roff("The configuration file, where --config does not name it."))
	line(".TP\n.B SESSIONGATE_*\n%s", roff("A setting: SESSIONGATE_LISTEN_AUTHZ is listen.authz."))
	_, err := io.WriteString(w, page.String())
	return err
}

// writeValues prints the arguments and flags that a node itself has.
func writeValues(line func(string, ...any), of *kong.Node) {
	for _, argument := range of.Positional {
		line(".TP\n.I %s\n%s", roff(argument.Name), roff(argument.Help))
	}
	for _, flag := range of.Flags {
		if flag.Hidden || (flag.Name == "help" && of.Type != kong.ApplicationNode) {
			continue
		}
		name := `\fB` + roff("--"+flag.Name) + `\fR`
		if flag.Short != 0 {
			name = `\fB` + roff("-"+string(flag.Short)) + `\fR, ` + name
		}
		if !flag.IsBool() {
			name += `=\fI` + roff(flag.FormatPlaceHolder()) + `\fR`
		}
		line(".TP\n%s\n%s", name, roff(flag.Help))
	}
}

func arguments(of *kong.Node) string {
	words := []string{""}
	for _, argument := range of.Positional {
		words = append(words, argument.Summary())
	}
	return strings.Join(words, " ")
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// roff is text that roff prints as it stands: no word of it is a request or an escape.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(strings.TrimSpace(text))
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

// quoted is one argument of a macro.
func quoted(text string) string { return `"` + strings.ReplaceAll(roff(text), `"`, `\(dq`) + `"` }
