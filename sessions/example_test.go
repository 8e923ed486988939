package sessions_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/memory"
)

// startEngine runs an engine over a store until stop is called, as a program's main does. See
// package postgres for a store that lasts.
func startEngine(store sessions.Store) (engine *sessions.Engine, stop func()) {
	secret := make([]byte, 32) // a program reads it from where it keeps its secrets
	_, _ = rand.Read(secret)
	key, err := sessions.ParseKeyEncryptionKey(base64.StdEncoding.EncodeToString(secret))
	if err != nil {
		log.Fatal(err)
	}
	ready := make(chan struct{})
	cfg := sessions.Defaults()
	cfg.KeyEncryptionKey = key
	cfg.Observe = func(e sessions.Event) { // a program writes its log and its metrics here
		if e.Kind == sessions.EventReady {
			close(ready)
		}
	}
	engine, err = sessions.New(store, cfg)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	<-ready
	return engine, func() {
		cancel()
		if err := <-done; err != nil {
			log.Print(err)
		}
	}
}

// A session's life: it is created at sign-in, each request is verified in memory,
// an access token that grows old is refreshed, and in the end the user signs out.
func Example() {
	ctx := context.Background()
	store := memory.New()
	engine, stop := startEngine(store)
	client := sessions.NewClient(netip.MustParseAddr("192.0.2.7"), "Firefox")

	issued, err := engine.Create(ctx, sessions.NewSession{
		UserID: "alice", Claims: []byte(`{"role":"admin"}`), Transport: sessions.TransportCookie, Client: client,
	})
	if err != nil {
		log.Fatal(err)
	}
	// The client keeps both; Cookies.Set makes cookies of them.
	accessToken, refreshToken := issued.Access.Reveal(), issued.Refresh.Reveal()
	fmt.Println("printed, a token is", issued.Access)

	access, denial := engine.Verify(sessions.TransportCookie, []string{accessToken})
	if denial != nil {
		log.Fatal(denial)
	}
	fmt.Printf("%s is signed in, with %s\n", access.UserID, access.Claims)

	store.Advance(time.Minute) // had it been a second, the refresh token would stay: a late answer may be under way
	issued, err = engine.Refresh(ctx, sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{refreshToken}, Client: client})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("refreshed by", issued.Rule, "with a new refresh token:", issued.Refresh != "")

	if err := engine.SignOut(ctx, sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: []string{issued.Refresh.Reveal()}}); err != nil {
		log.Fatal(err)
	}
	_, denial = engine.Verify(sessions.TransportCookie, []string{accessToken})
	fmt.Println(denial)
	stop()

	// Output:
	// printed, a token is [redacted]
	// alice is signed in, with {"role":"admin"}
	// refreshed by R4 with a new refresh token: true
	// UNAUTHORISED: session was ended
}

// What a refused refresh means for the client.
func ExampleEngine_Refresh() {
	ctx := context.Background()
	store := memory.New()
	engine, stop := startEngine(store)
	alices := sessions.NewClient(netip.MustParseAddr("192.0.2.7"), "Firefox")
	attackers := sessions.NewClient(netip.MustParseAddr("203.0.113.9"), "curl")

	issued, err := engine.Create(ctx, sessions.NewSession{UserID: "alice", Transport: sessions.TransportCookie, Client: alices})
	if err != nil {
		log.Fatal(err)
	}
	stolen := issued.Refresh.Reveal()

	refresh := func(user string, token string, client sessions.Client) sessions.Issued {
		issued, err := engine.Refresh(ctx, sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{token}, Client: client})
		switch {
		case errors.Is(err, sessions.ErrTheft): // is an ErrSessionEnded, too
			fmt.Println(user, "is signed out: the token was used by another client")
		case errors.Is(err, sessions.ErrSessionEnded):
			fmt.Println(user, "is signed out")
		case errors.Is(err, sessions.ErrSuperseded):
			fmt.Println(user, "keeps the cookies: another answer counts")
		case errors.Is(err, sessions.ErrUnavailable):
			fmt.Println(user, "tries again later: nothing changed")
		default:
			fmt.Println(user, "has new tokens")
		}
		return issued
	}

	store.Advance(time.Minute)
	attacker := refresh("the attacker", stolen, attackers)
	refresh("alice, at the same time,", stolen, alices)

	// The attacker's child is used: from then on, the use of the old token is a reuse.
	store.Advance(time.Minute)
	refresh("the attacker", attacker.Refresh.Reveal(), attackers)
	store.Advance(time.Minute)
	refresh("alice", stolen, alices)
	refresh("the attacker", attacker.Refresh.Reveal(), attackers)
	stop()

	// Output:
	// the attacker has new tokens
	// alice, at the same time, keeps the cookies: another answer counts
	// the attacker has new tokens
	// alice is signed out: the token was used by another client
	// the attacker is signed out
}

// New claims are in every access token that is minted from then on. A token with the former claims
// is sent to refresh; the client that caused the change gets a new token.
func ExampleEngine_Update() {
	ctx := context.Background()
	engine, stop := startEngine(memory.New())
	issued, err := engine.Create(ctx, sessions.NewSession{UserID: "alice", Claims: []byte(`{"plan":"free"}`), Transport: sessions.TransportCookie})
	if err != nil {
		log.Fatal(err)
	}
	before, denial := engine.Verify(sessions.TransportCookie, []string{issued.Access.Reveal()})
	if denial != nil {
		log.Fatal(denial)
	}

	session, err := engine.Update(ctx, before.Handle, sessions.Attributes{Claims: []byte(`{"plan":"paid"}`)})
	if err != nil {
		log.Fatal(err)
	}
	_, denial = engine.Verify(sessions.TransportCookie, []string{issued.Access.Reveal()})
	fmt.Println("the former access token:", denial.Outcome)

	successor, err := engine.Reissue(before, session)
	if err != nil {
		log.Fatal(err)
	}
	after, denial := engine.Verify(sessions.TransportCookie, []string{successor.Access.Reveal()})
	if denial != nil {
		log.Fatal(denial)
	}
	fmt.Printf("its successor: %s\n", after.Claims)
	stop()

	// Output:
	// the former access token: TRY_REFRESH
	// its successor: {"plan":"paid"}
}

// A backend ends all sessions of a user, as after a change of the password.
func ExampleEngine_EndUser() {
	ctx := context.Background()
	engine, stop := startEngine(memory.New())
	var last sessions.Issued
	for range 3 {
		var err error
		if last, err = engine.Create(ctx, sessions.NewSession{UserID: "alice", Transport: sessions.TransportHeader}); err != nil {
			log.Fatal(err)
		}
	}
	n, err := engine.EndUser(ctx, "alice", sessions.Ending{Reason: sessions.ReasonRevoked, Actor: "password change"})
	if err != nil {
		log.Fatal(err)
	}
	_, denial := engine.Verify(sessions.TransportHeader, []string{last.Access.Reveal()})
	fmt.Println(n, "ended;", denial.Outcome)
	stop()

	// Output:
	// 3 ended; UNAUTHORISED
}
