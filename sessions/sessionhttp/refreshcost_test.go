package sessionhttp

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// frozen is a store without statements: what is measured is our own part of a refresh. Every
// refresh finds the same row, later by a while, and every write succeeds and changes nothing.
type frozen struct {
	sessions.Store

	rec   sessions.Record
	later time.Duration
}

func (f *frozen) Get(context.Context, sessions.Handle) (sessions.Record, time.Time, error) {
	return f.rec, f.rec.CreatedAt.Add(f.later), nil
}

func (f *frozen) Swap(context.Context, sessions.Row, sessions.Row, sessions.Rule) (bool, error) {
	return true, nil
}

func (f *frozen) Create(ctx context.Context, n sessions.NewRecord) (sessions.Record, error) {
	if f.rec.UserID == "" {
		return f.Store.Create(ctx, n)
	}
	r := f.rec
	r.Handle, r.UserID, r.Current, r.CurrentClient, r.Claims, r.Data = n.Handle, n.UserID, n.Current, n.CurrentClient, n.Claims, n.Data
	return r, nil
}

// bare is what no server that signs can do without: it reads the token, asks the store, makes one
// ES256 signature and sends the same cookies.
type bare struct {
	store   *frozen
	key     *ecdsa.PrivateKey
	payload []byte
	refresh string // the text of the child; empty: the client keeps its own
}

func (b *bare) sign() (string, error) {
	signed := base64.RawURLEncoding.AppendEncode([]byte("eyJhbGciOiJFUzI1NiJ9."), b.payload)
	digest := sha256.Sum256(signed)
	signature, err := b.key.Sign(nil, digest[:], crypto.SHA256)
	return string(base64.RawURLEncoding.AppendEncode(append(signed, '.'), signature)), err
}

func (b *bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := r.Cookie("sRefreshToken"); err != nil {
		http.Error(w, "no token", http.StatusUnauthorized)
		return
	}
	rec, _, err := b.store.Get(r.Context(), sessions.Handle{})
	if err == nil && b.refresh != "" {
		_, err = b.store.Swap(r.Context(), rec.Row, rec.Row, "")
	}
	var access string
	if err == nil {
		access, err = b.sign()
	}
	if err != nil {
		http.Error(w, "failed", http.StatusInternalServerError)
		return
	}
	b.setCookie(w, "sAccessToken", access, "/")
	if b.refresh != "" {
		b.setCookie(w, "sRefreshToken", b.refresh, "/auth")
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, "{}")
}

func (*bare) setCookie(w http.ResponseWriter, name, value, path string) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: path, MaxAge: 2592000, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode})
}

// signIn is the same for POST /v1/sessions.
func (b *bare) signIn(w http.ResponseWriter, r *http.Request) {
	var in createRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, "no JSON", http.StatusBadRequest)
		return
	}
	_, err := b.store.Create(r.Context(), sessions.NewRecord{UserID: in.UserID, Claims: in.Claims})
	var access string
	if err == nil {
		access, err = b.sign()
	}
	if err != nil {
		http.Error(w, "failed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{"user_id": in.UserID, "access_token": access, "refresh_token": b.refresh})
}

// newFrozen is an engine over a frozen store, its handlers, and what a sign-in issued.
func newFrozen(b *testing.B) (f *frozen, public, internal http.Handler, issued sessions.Issued) {
	b.Helper()
	f = &frozen{Store: sessionstest.NewMemory()}
	cfg := sessions.Defaults()
	cfg.RefreshesPerSession, cfg.RefreshesPerAddress = sessions.Rate{PerSecond: 1e9, Burst: 1e9}, sessions.Rate{PerSecond: 1e9, Burst: 1e9}
	var err error
	if cfg.KeyEncryptionKey, err = sessions.ParseKeyEncryptionKey(base64.StdEncoding.EncodeToString(make([]byte, 32))); err != nil {
		b.Fatal(err)
	}
	ready := make(chan struct{})
	cfg.Observe = func(e sessions.Event) {
		if e.Kind == sessions.EventReady {
			close(ready)
		}
	}
	engine, err := sessions.New(f, cfg)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	<-ready
	issued, err = engine.Create(ctx, sessions.NewSession{UserID: "u1", Claims: []byte(`{"role":"admin"}`), Client: sessions.NewClient(netip.MustParseAddr(peer), userAgent)})
	if err != nil {
		b.Fatal(err)
	}
	f.rec = issued.Session
	c := Defaults()
	c.APIKeys = map[string]APIKey{apiCaller: {DigestKey(apiKey), AllScopes}}
	c.Log = slog.New(slog.DiscardHandler)
	c.Observe = func(context.Context, Observation) {}
	public, internal = handlers(b, engine, c)
	return f, public, internal, issued
}

// asSent is the text of a request as Envoy sends it.
func asSent(c call) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", c.method, c.path, host, len(c.body))
	_ = c.header.Write(&text)
	return text.String() + "\r\n" + c.body
}

// inMemory calls a handler without a connection.
func inMemory(b *testing.B, h http.Handler, c call, status int) func() {
	b.Helper()
	return func() {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(asSent(c))))
		if err != nil {
			b.Fatal(err)
		}
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != status {
			b.Fatal(w.Code, w.Body)
		}
	}
}

// overLoopback sends each request on one connection to a server of net/http. It only looks for the
// end of the answer, so the time is the server's.
func overLoopback(b *testing.B, h http.Handler, c call, status int) func() {
	b.Helper()
	server := httptest.NewServer(h)
	b.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	request, first := []byte(asSent(c)), fmt.Appendf(nil, "HTTP/1.1 %d ", status)
	buf := make([]byte, 64<<10)
	return func() {
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		for n := 0; ; {
			more, err := conn.Read(buf[n:])
			if err != nil {
				b.Fatal(err)
			}
			if n += more; isWhole(buf[:n]) {
				if !bytes.HasPrefix(buf[:n], first) {
					b.Fatalf("%s", buf[:n])
				}
				return
			}
		}
	}
}

// isWhole says whether an answer has all of its body, which has a length or is in chunks.
func isWhole(text []byte) bool {
	if bytes.HasSuffix(text, []byte("\r\n0\r\n\r\n")) {
		return true
	}
	head, body, ok := bytes.Cut(text, []byte("\r\n\r\n"))
	_, length, known := bytes.Cut(head, []byte("Content-Length: "))
	length, _, _ = bytes.Cut(length, []byte("\r\n"))
	n, err := strconv.Atoi(string(length))
	return ok && known && err == nil && len(body) == n
}

// BenchmarkEndpoints compares refresh and sign-in with the bare handler, in turns. bare/ours is how
// many answers of ours take the time of one of the bare handler.
func BenchmarkEndpoints(b *testing.B) {
	store, public, internal, issued := newFrozen(b)
	refresh := refreshCall(refreshCookie(issued.Refresh.Reveal()))
	signIn := apiCall(http.MethodPost, "/v1/sessions", `{"user_id":"u1","claims":{"role":"admin"}`+clientBody+`}`)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	keeps := &bare{store: store, key: private, payload: issued.Payload}
	renews := &bare{store: store, key: private, payload: issued.Payload, refresh: issued.Refresh.Reveal()}
	throughs := []struct {
		name string
		to   func(*testing.B, http.Handler, call, int) func()
	}{{"handler", inMemory}, {"server", overLoopback}}
	for _, endpoint := range []struct {
		name       string
		later      time.Duration
		call       call
		status     int
		ours, bare http.Handler
	}{
		{"R3", 0, refresh, http.StatusOK, public, keeps},
		{"R4", time.Hour, refresh, http.StatusOK, public, renews},
		{"sign-in", 0, signIn, http.StatusCreated, internal, http.HandlerFunc(renews.signIn)},
	} {
		for _, through := range throughs {
			b.Run(endpoint.name+"/"+through.name, func(b *testing.B) {
				store.later = endpoint.later
				compare(b, through.to(b, endpoint.ours, endpoint.call, endpoint.status), through.to(b, endpoint.bare, endpoint.call, endpoint.status))
			})
		}
	}
}

// compare runs both in turns of some. The medians leave out the turns that other work on this
// machine met.
func compare(b *testing.B, ours, bare func()) {
	b.Helper()
	const turn = 20
	var took [2][]float64 // nanoseconds of each request, by turn
	var ratio []float64
	var allocated [2]uint64
	for b.Loop() {
		for i, do := range []func(){ours, bare} {
			before := allocations()
			began := time.Now()
			for range turn {
				do()
			}
			took[i] = append(took[i], float64(time.Since(began).Nanoseconds())/turn)
			allocated[i] += allocations() - before
		}
		last := len(took[0]) - 1
		ratio = append(ratio, took[1][last]/took[0][last])
	}
	each := float64(len(ratio) * turn)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ratio), "bare/ours")
	b.ReportMetric(median(took[0]), "ours-ns")
	b.ReportMetric(median(took[1]), "bare-ns")
	b.ReportMetric(float64(allocated[0])/each, "ours-allocs")
	b.ReportMetric(float64(allocated[1])/each, "bare-allocs")
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// allocations is how many there were, without a stop of the world.
func allocations() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
