package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// peer is an ext_authz server of another project, which peers/FOLDER builds.
type peer struct{ name, folder, module string }

var (
	opaEnvoy  = peer{"OPA-Envoy", "opa", "github.com/open-policy-agent/opa-envoy-plugin"}
	authorino = peer{"Authorino", "authorino", "github.com/kuadrant/authorino"}
)

// peersPart compares Check with the servers of others. They read headers from the map alone, so all
// get the request in that form. A peer that does not build here is named, and the others go on.
func peersPart(ctx context.Context, b *bench) (_ []result, err error) {
	c, err := startChecks(ctx, b)
	if err != nil {
		return nil, err
	}
	var servers []*child
	defer func() {
		for _, s := range servers {
			err = errors.Join(err, s.stop())
		}
		err = errors.Join(err, c.stop())
	}()
	keys, err := ask(ctx, http.MethodGet, "http://"+c.gate.at.Public+"/.well-known/jwks.json", "", nil)
	if err != nil {
		return nil, err
	}
	jwks := b.file("jwks")
	if err := os.WriteFile(jwks, keys, 0o600); err != nil {
		return nil, fmt.Errorf("keeping the public keys: %w", err)
	}
	cookie, _, _ := strings.Cut(c.valid, "=")
	one := []string{c.valid}
	forged, err := of(mapped, anyDenial, otherSignature(c.valid, c.many[1]))
	if err != nil {
		return nil, err
	}
	entries := []entry{
		{plainName, c.plain, mapped, allows(false), 0, one},
		{"sessiongate, token cached", c.gate.child, mapped, allows(true), 0, one},
		{"sessiongate, first sight", c.small.child, mapped, allows(true), 0, c.many},
	}
	missing := []string{"istio-ecosystem's authservice (its module could not be fetched)"}
	for _, p := range []struct {
		peer

		what    string
		flags   []string
		cookies []string
	}{
		{opaEnvoy, "verifies", nil, c.many},
		{authorino, "verifies", nil, c.many},
		{authorino, "identity cached", []string{"-cached"}, one},
	} {
		binary, version, err := b.buildPeer(ctx, p.peer)
		if err != nil {
			_, _ = fmt.Fprintf(b.out, "not compared: %s: %v\n", p.name, err)
			missing = append(missing, p.name+" (it did not build)")
			continue
		}
		server, err := b.startPeer(ctx, binary, append([]string{"-jwks", jwks, "-cookie", cookie, "-header", "x-session-user-id"}, p.flags...))
		if err != nil {
			return nil, err
		}
		servers = append(servers, server)
		if err := refuses(ctx, server, forged); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		entries = append(entries, entry{p.name + " " + version + ", " + p.what, server, mapped, allows(true), 0, p.cookies})
	}
	_, _ = fmt.Fprintf(b.out, "not compared: %s\n", missing[0])

	together, err := b.apart()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, together()) }()
	checks, loops, err := b.contest(ctx, "Check, beside the servers of others",
		"One request, headers as a map, with one ES256 token in a cookie; each answer allows it and sets `x-session-user-id`. 64 at a time on two connections, one core for the server. "+
			"Not compared: "+strings.Join(missing, ", ")+".", entries)
	defer closeAll(loops)
	if err != nil {
		return nil, err
	}
	r, err := checks.run(ctx, b.rounds)
	return []result{r}, err
}

// refuses proves that a server verifies the signature: one that allows all would win.
func refuses(ctx context.Context, server *child, forged *load) error {
	p, err := newLoop(ctx, server, forged, spreadOver)
	if err != nil {
		return err
	}
	defer p.close()
	_, err = p.play(time.Millisecond)
	return err
}

// anyDenial expects a denial, whatever its HTTP status.
func anyDenial(a *authv3.CheckResponse) error {
	if a.GetStatus().GetCode() == 0 {
		return errors.New("the check allowed a token with the signature of another")
	}
	return nil
}

// buildPeer builds a peer and says which version its module has.
func (b *bench) buildPeer(ctx context.Context, p peer) (binary, version string, err error) {
	root, err := goText(ctx, "list", "-m", "-f", "{{.Dir}}", "github.com/sessiongate/sessiongate")
	if err != nil {
		return "", "", err
	}
	folder := filepath.Join(root, "internal", "bench", "peers", p.folder)
	if version, err = goText(ctx, "list", "-C", folder, "-m", "-f", "{{.Version}}", p.module); err != nil {
		return "", "", err
	}
	binary = filepath.Join(b.dir, p.folder)
	_, err = goText(ctx, "build", "-C", folder, "-trimpath", "-o", binary, ".")
	return binary, version, err
}

// goText runs the go command and returns what it prints.
func goText(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	text, err := cmd.Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		line, _, _ := strings.Cut(strings.TrimSpace(string(failed.Stderr)), "\n")
		return "", fmt.Errorf("go %s: %w: %s", args[0], err, line)
	}
	if err != nil {
		return "", fmt.Errorf("go %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(text)), nil
}

// startPeer runs a peer's server, in a folder of its own: it may write files beside its addresses.
func (b *bench) startPeer(ctx context.Context, binary string, flags []string) (*child, error) {
	folder := b.file(filepath.Base(binary))
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	file := filepath.Join(folder, "addresses")
	return b.start(ctx, file, nil, func(addresses) bool { return true }, binary, append([]string{"-addresses", file}, flags...)...)
}
