// Command fetch puts the Envoy that the tests and the demo run into the user's cache folder, if it is not there, and prints its path.
// So many test processes that start at once find it there instead of each fetching its own.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/sessiongate/sessiongate/internal/envoyrun"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	path, err := envoyrun.Binary(ctx, os.Stderr)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "fetch:", err)
		os.Exit(1)
	}
	_, _ = fmt.Fprintln(os.Stdout, path)
}
