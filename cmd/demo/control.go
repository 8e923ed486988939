package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// The switches of the demo's page: this process owns Postgres and the sessiongate
// processes, so it alone can end and start them. It listens on loopback for the demo app,
// which has the secret in its environment. No page of another site may end a part.

const controlHeaderTimeout = 5 * time.Second

// control lets the demo app switch parts. Requests are served one by one for each part.
type control struct {
	secret string
	parts  map[string]switchable
	names  []string // of the parts, in order

	listener net.Listener
	server   *http.Server
	served   chan error
	running  context.Context //nolint:containedctx // of what a switch has begun: it ends with the demo, not with the page's request
	cancel   context.CancelFunc
}

// switchable is a part that can be ended and started. Its methods may be called at any
// time, and a second call to the same effect does nothing.
type switchable interface {
	// off returns once nothing of the part runs.
	off(ctx context.Context) error
	// on returns once the part runs. It may not be ready yet.
	on(ctx context.Context) error
	// state is on, off or starting.
	state(ctx context.Context) string
}

// startControl listens. It answers once the parts were added: see serve.
func startControl(ctx context.Context) (*control, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", anyPort)
	if err != nil {
		return nil, fmt.Errorf("listening for the page's switches: %w", err)
	}
	c := &control{secret: rand.Text() + rand.Text(), parts: map[string]switchable{}, listener: listener, served: make(chan error, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /parts", c.show)
	mux.HandleFunc("POST /parts/{name}", c.turn)
	c.running, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.server = &http.Server{Handler: c.guarded(mux), ReadHeaderTimeout: controlHeaderTimeout}
	return c, nil
}

func (c *control) add(name string, p switchable) {
	c.parts[name] = p
	c.names = append(c.names, name)
}

// serve begins to answer. No part is added any more.
func (c *control) serve() { go func() { c.served <- c.server.Serve(c.listener) }() }

func (c *control) url() string { return "http://" + c.listener.Addr().String() }

// stop returns once no switch is being turned.
func (c *control) stop() error {
	c.cancel()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.running), stopTimeout)
	defer cancel()
	err := c.server.Shutdown(ctx)
	if serveErr := <-c.served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

// guarded asks for the secret: every user and every web page of this machine can reach
// loopback.
func (c *control) guarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+c.secret)) != 1 {
			http.Error(w, "only the demo app may ask", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// partState is a part as the page reads it.
type partState struct {
	Name  string `json:"name"`
	State string `json:"state"`
}

func (c *control) show(w http.ResponseWriter, r *http.Request) {
	all := []partState{}
	for _, name := range c.names {
		all = append(all, partState{name, c.parts[name].state(r.Context())})
	}
	writeJSON(w, http.StatusOK, all)
}

func (c *control) turn(w http.ResponseWriter, r *http.Request) {
	var want struct {
		On bool `json:"on"`
	}
	p, ok := c.parts[r.PathValue("name")]
	if !ok || json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&want) != nil {
		writeJSON(w, http.StatusNotFound, map[string]string{"message": "There is no such switch."})
		return
	}
	// A page that is closed meanwhile must not leave a part half started.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	defer context.AfterFunc(c.running, cancel)() //nolint:contextcheck // either of them ends it
	turn := p.off
	if want.On {
		turn = p.on
	}
	if err := turn(ctx); err != nil {
		writeJSON(w, http.StatusInternalServerError, map[string]string{"message": err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, partState{r.PathValue("name"), p.state(ctx)})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		return // without a reader there is nothing to tell
	}
}

// databaseSwitch kills Postgres and starts it again.
type databaseSwitch struct {
	database database

	mu   sync.Mutex
	gone bool
}

func (d *databaseSwitch) off(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.gone {
		d.database.Kill()
		d.gone = true
	}
	return nil
}

func (d *databaseSwitch) on(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.gone {
		return nil
	}
	if err := d.database.Restart(ctx); err != nil {
		return err
	}
	d.gone = false
	return nil
}

func (d *databaseSwitch) state(context.Context) string {
	if !d.mu.TryLock() {
		return "starting"
	}
	defer d.mu.Unlock()
	if d.gone {
		return "off"
	}
	return "on"
}

// replicaSwitch kills a sessiongate process and starts another at the same addresses,
// which Envoy knows.
type replicaSwitch struct {
	start   func() (*child, error)
	address string // of the internal listener

	mu      sync.Mutex
	process *child // nil: it was killed
}

func (r *replicaSwitch) off(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process != nil {
		r.process.wanted.Store(true)
		r.process.Kill()
		r.process = nil
	}
	return nil
}

func (r *replicaSwitch) on(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process != nil {
		return nil
	}
	p, err := r.start()
	if err != nil {
		return err
	}
	r.process = p
	return nil
}

func (r *replicaSwitch) state(ctx context.Context) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.process == nil:
		return "off"
	case isReady(ctx, r.address):
		return "on"
	}
	return "starting"
}
