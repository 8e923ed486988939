package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

type profileCmd struct {
	Name    string `arg:""       enum:"cpu,heap,allocs,goroutine,trace"          help:"One of ${enum}."`
	Seconds int    `default:"30" help:"How long a cpu profile or a trace takes."`
}

// Run implements the command.
func (k profileCmd) Run(f *flags, p process) error {
	config, _, err := load(f.ConfigFile, p.environ)
	if err != nil {
		return err
	}
	address := config.Profiling.Listen
	switch {
	case address == "":
		return errors.New("profiling.listen is empty: profiling is off")
	case strings.HasSuffix(address, ":0"):
		return errors.New("profiling.listen has port 0: this command needs a fixed one")
	case k.Seconds < 1:
		return errors.New("--seconds must be at least 1")
	}
	return fetchProfile(p.ctx, p.stdout, address, k.Name, k.Seconds)
}

const (
	// profileSlack is how long a profile may take beyond the time that it measures.
	profileSlack = 30 * time.Second

	profileReasonMax = 4 << 10
)

// fetchProfile writes a profile of the process that listens at address.
func fetchProfile(ctx context.Context, w io.Writer, address, name string, seconds int) error {
	network, at, host := "tcp", address, address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, at, host = "unix", path, "localhost"
	}
	path := name
	switch name {
	case "cpu":
		path = "profile?seconds=" + strconv.Itoa(seconds)
	case "trace":
		path = "trace?seconds=" + strconv.Itoa(seconds)
	default:
		seconds = 0
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+profileSlack)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+pprofPath+path, nil)
	if err != nil {
		return fmt.Errorf("asking for a profile: %w", err)
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at)
	}}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("asking for a profile: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		// The body says what to do. One that cannot be read leaves the status.
		reason, _ := io.ReadAll(io.LimitReader(response.Body, profileReasonMax))
		return fmt.Errorf("no profile: %s: %s", response.Status, bytes.TrimSpace(reason))
	}
	_, err = io.Copy(w, response.Body)
	return err
}
