package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sessiongate/sessiongate/internal/settings"
	"github.com/sessiongate/sessiongate/sessions/sessiondev"
)

type devCmd struct {
	App string `help:"Address of your app: http://HOST:PORT." placeholder:"URL" required:""`

	Listen string `default:"127.0.0.1:8080" help:"Address for browsers, of this machine alone (${default})." placeholder:"HOST:PORT"`

	ListenAPI string `default:"127.0.0.1:9003" help:"Address of the sessions API, of this machine alone (${default})." name:"listen-api" placeholder:"HOST:PORT"`

	AddressFile string `help:"File into which it writes url, internal_url and api_key, as JSON, once it is ready. For test suites, with port 0." placeholder:"FILE"`

	Envoy bool `help:"Have the real Envoy in front, with the shipped envoy.yaml: the one that ENVOY names, or it is fetched (35 MB, once)."`

	Login string `help:"Your login page: a path of your app, or an address elsewhere. Without it, /dev/login: a form that signs anybody in." placeholder:"URL"`
}

// apiKeyVariable is by which the app finds its key, as in the README. Where it is set, dev takes
// that key: the app needs no other after a restart.
const apiKeyVariable = "SESSIONS_API_KEY"

// Help implements [kong.HelpProvider].
func (devCmd) Help() string {
	return "It is for development, never for production. Of the configuration it takes routes, anti_csrf, responses.on_unauthorised, allowed_origins, " +
		"strip_cookies, login_url and log.level. " + apiKeyVariable + ", where it is set, is the key of the sessions API; else one is made."
}

// Run implements the command.
func (k devCmd) Run(f *flags, p process) error {
	config, from, err := load(f.ConfigFile, p.environ)
	if err != nil {
		return err
	}
	if from["log.format"] == (settings.Origin{}) {
		config.Log.Format = "text"
	}
	o := sessiondev.Options{
		App: k.App, Listen: k.Listen, Internal: k.ListenAPI, LoginURL: k.Login, Default: &config.Check.Default, Routes: config.Check.Routes,
		AllowedOrigins: config.HTTP.AllowedOrigins, StripCookies: config.Check.StripCookies, Envoy: k.Envoy, Log: newLogger(p.stderr, config),
	}
	if o.LoginURL == "" && from["login_url"] != (settings.Origin{}) {
		o.LoginURL = config.Check.LoginURL
	}
	if key := variable(p.environ, apiKeyVariable); key != "" {
		if !isAPISecret(key) {
			return fmt.Errorf("%s: allowed: %s", apiKeyVariable, allowedAPISecret)
		}
		o.APIKey = key
	}
	s, err := sessiondev.Start(p.ctx, o)
	if err != nil {
		return err
	}
	err = writeDev(p.stdout, s, k.App, cmp.Or(o.LoginURL, sessiondev.LoginPath))
	if err == nil && k.AddressFile != "" {
		err = writeJSONFile(k.AddressFile, map[string]string{"url": s.URL, "internal_url": s.InternalURL, "api_key": s.APIKey})
	}
	if err == nil {
		select {
		case <-p.ctx.Done():
		case <-s.Ended():
		}
	}
	return errors.Join(err, s.Close())
}

// writeDev tells the developer where everything is.
func writeDev(w io.Writer, s *sessiondev.Server, app, login string) error {
	_, err := fmt.Fprintf(w, `sessiongate dev: for development only, never for production. Sessions are in memory.

  open      %[1]s   your app at %[2]s, with sessions
  sign in   %[3]s
  controls  %[1]s/dev/   expire, end, theft, outage

For your backend:

  export SESSIONS_URL=%[4]s
  export %[5]s=%[6]s

It signs a user in with one call. Copy set_cookie and headers of the answer into yours:

  curl -sS "$SESSIONS_URL/v1/sessions" -H "Authorization: Bearer $%[5]s" -H "Content-Type: application/json" -d '{"user_id": "ada"}'

By hand:

  curl -sS -X POST %[1]s/dev/login -d user=ada -c jar.txt
  curl -sS %[1]s/ -b jar.txt -H "Sec-Fetch-Site: none" -H "Sec-Fetch-Mode: navigate"
  curl -sS -X POST %[1]s/dev/expire
  curl -sS -X POST %[1]s/dev/end
  curl -sS -X POST %[1]s/dev/theft
  curl -sS -X POST "%[1]s/dev/outage?on=true"     and back: on=false

`, s.URL, app, absolute(s.URL, login), s.InternalURL, apiKeyVariable, s.APIKey)
	return err
}

func absolute(base, address string) string {
	if strings.HasPrefix(address, "/") {
		return base + address
	}
	return address
}

// variable is the last value of a variable, as os.Getenv has it.
func variable(environ []string, name string) (value string) {
	for _, entry := range environ {
		if key, text, ok := strings.Cut(entry, "="); ok && key == name {
			value = text
		}
	}
	return value
}
