// A program with a client that oapi-codegen has made of openapi.json. The tests run it, and
// docs/api.md shows lines of it.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"

	"example.com/login/sessiongate"
)

func main() {
	ctx := context.Background()
	key := func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+os.Getenv("SESSIONS_API_KEY"))
		return nil
	}
	client, err := sessiongate.NewClientWithResponses(os.Getenv("SESSIONS_URL"), sessiongate.WithRequestEditorFn(key))
	if err != nil {
		log.Fatal(err)
	}

	user := "ada"
	browser := sessiongate.SignInClient{Address: new("203.0.113.7"), UserAgent: new("Mozilla/5.0")}
	claims, data := sessiongate.Claims{"plan": "pro"}, sessiongate.Data{"cart": []string{"tea"}}
	created, err := client.CreateSessionWithResponse(ctx, sessiongate.CreateRequest{UserId: user, Claims: &claims, Data: &data, Client: &browser})
	if err != nil || created.JSON201 == nil {
		log.Fatal("creating: ", err, created)
	}
	session, tokens := created.JSON201.Session, created.JSON201.Tokens
	fmt.Println("created", session.UserId, session.Claims["plan"], session.Data["cart"].([]any)[0], len(*created.JSON201.SetCookie) > 0)

	verified, err := client.VerifySessionWithResponse(ctx, sessiongate.VerifyRequest{AccessToken: &tokens.AccessToken, AntiCsrf: tokens.AntiCsrf})
	if err != nil || verified.JSON200 == nil { // only 200 allows
		log.Fatal("verifying: ", err, verified)
	}
	fmt.Println("verified", verified.JSON200.Session.UserId, verified.JSON200.Session.Claims["plan"])
	denied, err := client.VerifySessionWithResponse(ctx, sessiongate.VerifyRequest{AccessToken: new("x")})
	if err != nil || denied.JSON200 != nil {
		log.Fatal("verifying another: ", err, denied)
	}
	fmt.Println("denied", denied.StatusCode(), *denied.ApplicationproblemJSON440.Outcome)

	refreshed, err := client.RefreshSessionWithResponse(ctx, sessiongate.RefreshRequest{
		RefreshToken: &tokens.RefreshToken,
		Client:       sessiongate.RefreshingClient{Address: "203.0.113.7", UserAgent: new("Mozilla/5.0")},
	})
	if err != nil || refreshed.JSON200 == nil {
		log.Fatal("refreshing: ", err, refreshed)
	}
	fmt.Println("refreshed", refreshed.JSON200.Session.UserId)

	claims = sessiongate.Claims{"plan": "free"}
	updated, err := client.UpdateSessionWithResponse(ctx, session.Handle, sessiongate.UpdateRequest{Claims: &claims})
	if err != nil || updated.JSON200 == nil {
		log.Fatal("updating: ", err, updated)
	}
	fmt.Println("updated", updated.JSON200.Session.Claims["plan"])

	list, err := client.ListSessionsOfUserWithResponse(ctx, user, &sessiongate.ListSessionsOfUserParams{Limit: new(10)})
	if err != nil || list.JSON200 == nil {
		log.Fatal("listing: ", err, list)
	}
	fmt.Println("listed", len(list.JSON200.Sessions), list.JSON200.Sessions[0].Claims["plan"], list.JSON200.More)

	ended, err := client.EndSessionWithResponse(ctx, session.Handle, &sessiongate.EndSessionParams{})
	if err != nil || ended.JSON200 == nil {
		log.Fatal("ending: ", err, ended)
	}
	fmt.Println("ended", ended.JSON200.Ended)
}
