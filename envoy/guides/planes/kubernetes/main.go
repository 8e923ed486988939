// Command kubernetes lends the throw-away Kubernetes API of package apiserver to a test of another module: it prints the path of a kubeconfig, and
// ends with its standard input.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/sessiongate/sessiongate/envoy/guides/planes/apiserver"
)

func main() {
	if err := run(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	server, err := apiserver.Start(context.Background(), os.Stderr)
	if err != nil {
		return err
	}
	defer server.Stop()
	if _, err := fmt.Println(server.Kubeconfig); err != nil {
		return fmt.Errorf("naming the kubeconfig: %w", err)
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
