package postgres_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
)

// How a program puts an engine over a database. Any number of programs may do so over one database.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	key, err := sessions.ParseKeyEncryptionKey(os.Getenv("SESSIONS_KEY")) // 32 bytes in base64
	if err != nil {
		log.Fatal(err)
	}
	store, err := postgres.Open(ctx, postgres.Config{URL: os.Getenv("SESSIONS_DATABASE_URL")})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := store.Migrate(ctx); err != nil { // of several that do, one migrates
		log.Fatal(err)
	}

	ready := make(chan struct{})
	cfg := sessions.Defaults()
	cfg.KeyEncryptionKey = key
	cfg.Observe = func(e sessions.Event) {
		if e.Kind == sessions.EventReady {
			close(ready)
		}
	}
	engine, err := sessions.New(store, cfg)
	if err != nil {
		log.Fatal(err)
	}
	running := make(chan error, 1)
	go func() { running <- engine.Run(ctx) }() // it waits for a database that is away
	<-ready

	issued, err := engine.Create(ctx, sessions.NewSession{UserID: "alice", Transport: sessions.TransportCookie})
	if err != nil {
		log.Fatal(err)
	}
	access, denial := engine.Verify(sessions.TransportCookie, []string{issued.Access.Reveal()})
	if denial != nil {
		log.Fatal(denial)
	}
	fmt.Println(access.UserID, "is signed in")

	// First the engine, which flushes what it has, then the connections.
	stop()
	if err := <-running; err != nil {
		log.Print(err)
	}
	store.Close()

	// Output:
	// alice is signed in
}
