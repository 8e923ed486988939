package sessiondev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/internal/envoyrun"
)

// envoyDoor is the real Envoy with the shipped envoy.yaml. It asks this process over unix sockets in a
// folder of this user: so no page in a browser, and no other user, comes to the check and to the
// controls but through Envoy.
type envoyDoor struct {
	address string
	proxy   *proxy // for its handlers
	log     *slog.Logger
	ready   func() bool

	dir   string
	check *grpc.Server
	front *http.Server
	envoy *envoyrun.Proxy
	done  chan struct{} // closed when the door is closed on purpose
}

func (d *envoyDoor) open(ctx context.Context, g *errgroup.Group) (string, error) {
	at, err := d.freeAddress(ctx)
	if err != nil {
		return "", err
	}
	binary, err := envoyrun.Binary(ctx, progress{d.log})
	if err != nil {
		return "", fmt.Errorf("%w; without --envoy none is needed", err)
	}
	if d.dir, err = os.MkdirTemp("", "sessiongate-dev-"); err != nil {
		return "", fmt.Errorf("making a folder: %w", err)
	}
	check, public := filepath.Join(d.dir, "check"), filepath.Join(d.dir, "public")
	d.check = authz.NewGRPCServer(d.proxy.authz, d.ready, authz.Limits{})
	d.front = newHTTPServer(http.HandlerFunc(d.serve))
	d.done = make(chan struct{}) // from here on, close has what it ends
	checks, err := new(net.ListenConfig).Listen(ctx, "unix", check)
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	publics, err := new(net.ListenConfig).Listen(ctx, "unix", public)
	if err != nil {
		return "", errors.Join(fmt.Errorf("listen: %w", err), checks.Close())
	}
	g.Go(func() error { return d.check.Serve(checks) })
	g.Go(func() error { return served(d.front.Serve(publics)) })
	d.envoy, err = envoyrun.Start(ctx, envoyrun.Options{
		Binary:    binary,
		Listeners: map[string]string{"ingress": at},
		Clusters: map[string][]string{
			"sessiongate_authz": {"unix:" + check}, "sessiongate_public": {"unix:" + public}, "app": {hostPort(d.proxy.app)},
		},
		Edit: d.edit, PrivateAdmin: true,
	})
	if err != nil {
		return "", err
	}
	g.Go(func() error {
		select {
		case <-d.done:
			return nil
		case <-d.envoy.Exited():
			return errors.New("the proxy has ended") // close says how
		}
	})
	return d.envoy.URL("ingress"), nil
}

func (d *envoyDoor) close(grace context.Context) error {
	if d.done == nil {
		return nil
	}
	close(d.done)
	var err error
	if d.envoy != nil {
		err = d.envoy.Stop()
	}
	d.check.Stop()
	shut(grace, d.front)
	return errors.Join(err, os.RemoveAll(d.dir))
}

// serve answers what Envoy sends to sessiongate.
func (d *envoyDoor) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, controlPath) {
		d.proxy.control.ServeHTTP(w, r)
		return
	}
	d.proxy.public.ServeHTTP(w, r)
}

// freeAddress is the address for Envoy. Where it is in use, the error is one line here, and a page of
// log there.
func (d *envoyDoor) freeAddress(ctx context.Context) (string, error) {
	l, err := listen(ctx, d.address)
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(l.Addr().String())
	if _, asked, _ := net.SplitHostPort(d.address); asked == "" || asked == "0" {
		port = "0" // another might take the one that is free now
	}
	return net.JoinHostPort(host, port), errors.Join(err, l.Close())
}

// hostPort is where the app listens.
func hostPort(app *url.URL) string {
	port := app.Port()
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(app.Hostname(), port)
}

type object = map[string]any

// edit gives the shipped configuration the routes of the proxy of this package: they are among what is
// marked CHANGE there. Its access log goes, for this process has its own lines on denials.
func (d *envoyDoor) edit(config []byte) ([]byte, error) {
	var bootstrap object
	if err := json.Unmarshal(config, &bootstrap); err != nil {
		return nil, fmt.Errorf("reading Envoy bootstrap: %w", err)
	}
	ingress := dig(bootstrap, "static_resources", "listeners")
	ingress["enable_reuse_port"] = false // a second process at this port fails, and does not share its connections
	manager := dig(ingress, "filter_chains", "filters", "typed_config")
	delete(manager, "access_log")
	host := dig(manager, "route_config", "virtual_hosts")
	shipped := map[any]object{}
	for _, route := range list(host["routes"]) {
		shipped[route["name"]] = route
	}
	login, rest := shipped["login"], shipped["default"]
	routes := []object{shipped["auth"], shipped["jwks"], {
		"name": "dev", "match": object{"prefix": controlPath}, "route": object{"cluster": "sessiongate_public", "timeout": "15s"},
		"typed_per_filter_config": login["typed_per_filter_config"],
	}}
	if d.proxy.login != "" {
		login["match"] = object{"path": d.proxy.login}
		routes = append(routes, login)
	}
	delete(rest, "typed_per_filter_config") // the policy is in the table of routes
	host["routes"] = append(routes, rest)
	origins := []object{}
	for _, origin := range d.proxy.origins {
		origins = append(origins, object{"exact": origin})
	}
	dig(host, "typed_per_filter_config", "envoy.filters.http.cors")["allow_origin_string_match"] = origins
	for _, cluster := range list(dig(bootstrap, "static_resources")["clusters"]) {
		if cluster["name"] == "app" && cluster["type"] == "STRICT_DNS" {
			cluster["type"], cluster["dns_lookup_family"] = "LOGICAL_DNS", "ALL" // localhost: IPv6 or IPv4, as the app listens
		}
	}
	changed, err := json.Marshal(bootstrap)
	if err != nil {
		return nil, fmt.Errorf("writing Envoy bootstrap: %w", err)
	}
	return changed, nil
}

// dig goes down by keys. Of a list it takes the first entry.
func dig(from object, keys ...string) object {
	for _, key := range keys {
		next, ok := from[key].(object)
		if !ok {
			next = list(from[key])[0]
		}
		from = next
	}
	return from
}

func list(of any) (entries []object) {
	for _, entry := range of.([]any) { //nolint:forcetypeassert // the file is ours, and tests run it
		entries = append(entries, entry.(object)) //nolint:forcetypeassert // see above
	}
	return entries
}

// progress makes a line of the log of what is fetched.
type progress struct{ log *slog.Logger }

func (p progress) Write(b []byte) (int, error) {
	p.log.Info(strings.TrimSpace(string(b)))
	return len(b), nil
}
