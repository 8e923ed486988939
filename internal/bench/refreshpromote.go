package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
)

// newToken is the access token that came with a child, and the child's lineage in it.
type newToken struct {
	user   user
	text   string
	parent string // token hash in base64url
	own    string
}

// lineageHeader has parent and own for the bare handler.
const lineageHeader = "X-Bench-Lineage"

// issueChildren has every user refresh once, and returns the access tokens that came.
func (d *deployment) issueChildren(ctx context.Context, users []user, at *child) ([]newToken, error) {
	if err := d.set(ctx, due); err != nil {
		return nil, err
	}
	tokens := make([]newToken, len(users))
	right := answers(true)
	_, err := closedLoop{address: at.at.Public, connections: connections, requests: browserRequests(users, refreshPath), once: true, judge: func(i int, head, body []byte) error {
		if err := right(i, head, body); err != nil {
			return err
		}
		var text []byte
		var parts [][]byte
		for rest := head; len(parts) != 3; parts = bytes.Split(text, []byte(".")) {
			var found bool
			if _, rest, found = bytes.Cut(rest, []byte("Set-Cookie: sAccessToken=")); !found {
				return errors.New("an answer has no access token")
			}
			text, _, _ = bytes.Cut(rest, []byte(";")) // empty where a cookie of a parent domain is deleted
		}
		payload, err := base64.RawURLEncoding.DecodeString(string(parts[1]))
		if err != nil {
			return errors.New("an access token is not in base64url")
		}
		var claims struct {
			Gate map[string]any `json:"sg"`
		}
		if err := json.Unmarshal(payload, &claims); err != nil {
			return errors.New("an access token's payload is no JSON")
		}
		own, _ := claims.Gate["own"].(string)
		parent, _ := claims.Gate["parent"].(string)
		if own == "" || parent == "" {
			return errors.New("an access token has no lineage")
		}
		tokens[i] = newToken{users[i], string(text), parent, own}
		return nil
	}}.run(ctx)
	return tokens, err
}

// promotionsMax is how many first uses a turn has: as many as the queue of promotions takes
// (promotion.queue), so that none is dropped.
const promotionsMax = 4096

// comparePromotions measures first uses of children, until all are promoted. sessiongate sees them
// in Checks, the bare handler in requests: it verifies the signature of a token, and writes
// promotions in batches with the same statements.
func (d *deployment) comparePromotions(ctx context.Context, users []user, plain *child, names []string, replicas []*child) (result, error) {
	users = users[:min(len(users), promotionsMax)]
	c := contest{
		title: "promotion", unit: "promotions", goal: map[string]float64{},
		why: "From the first use of a child to the written row, for " + strconv.Itoa(len(users)) + " children at once. The CPU has that of the check.",
	}
	var turns []turn
	add := func(name string, at *child, use func(ctx context.Context, tokens []newToken) error) {
		c.contenders = append(c.contenders, contender{name: name})
		turns = append(turns, func(ctx context.Context) (m measurement, postgres time.Duration, err error) {
			tokens, err := d.issueChildren(ctx, users, replicas[0])
			if err != nil {
				return m, 0, err
			}
			before, err := cpuOf(at.PID())
			if err != nil {
				return m, 0, err
			}
			began := time.Now()
			postgres = familyCPU(d.postmaster)
			if err := use(ctx, tokens); err != nil {
				return m, 0, err
			}
			m.took, m.requests = time.Since(began), len(tokens)
			postgres = familyCPU(d.postmaster) - postgres
			if m.cpu, err = cpuOf(at.PID()); err != nil {
				return m, postgres, err
			}
			m.cpu -= before
			return m, postgres, d.promotedAll(ctx, len(tokens))
		})
	}
	add("bare handler", plain, func(ctx context.Context, tokens []newToken) error { return d.usePlainly(ctx, plain, tokens) })
	for i, r := range replicas {
		c.goal[names[i]] = 0.8
		add(names[i], r, func(ctx context.Context, tokens []newToken) error { return useByCheck(ctx, r, tokens) })
	}
	return d.run(ctx, c, turns)
}

// promotedAll proves that each child is current.
func (d *deployment) promotedAll(ctx context.Context, want int) error {
	var n int
	if err := d.db.QueryRow(ctx, `SELECT count(*) FROM sessiongate.active_sessions s JOIN bench.sessions o USING (handle)
		WHERE s.previous_hash = o.current_hash AND s.issues = 0`).Scan(&n); err != nil {
		return err
	}
	if n != want {
		return fmt.Errorf("%d of %d children are promoted", n, want)
	}
	return nil
}

// usePlainly sends the tokens to the bare handler, which answers once the row is written.
func (d *deployment) usePlainly(ctx context.Context, plain *child, tokens []newToken) error {
	before, err := countOf(ctx, "http://"+plain.at.Public+"/promoted", barePromoted)
	if err != nil {
		return err
	}
	requests := make([][]byte, len(tokens))
	for i, t := range tokens {
		t.user.access = t.text
		request := t.user.browserRequest("/promote")
		requests[i] = bytes.Replace(request, []byte("Content-Length:"), []byte(lineageHeader+": "+t.parent+"."+t.own+"\r\nContent-Length:"), 1)
	}
	if _, err := (closedLoop{address: plain.at.Public, connections: connections, requests: requests, once: true, judge: isOK}).run(ctx); err != nil {
		return err
	}
	return awaitCount(ctx, "http://"+plain.at.Public+"/promoted", barePromoted, before+len(tokens))
}

var (
	barePromoted = regexp.MustCompile(`^(\d+)`)
	gatePromoted = regexp.MustCompile(`(?m)^sessiongate_promotions_total (\d+)`)
)

// useByCheck sends the tokens in Checks, and waits until the process counts them as promoted.
func useByCheck(ctx context.Context, at *child, tokens []newToken) error {
	metrics := "http://" + at.at.Internal + "/metrics"
	before, err := countOf(ctx, metrics, gatePromoted)
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient("passthrough:///"+at.at.Authz, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	client := authv3.NewAuthorizationClient(conn)
	next := make(chan newToken, len(tokens))
	for _, t := range tokens {
		next <- t
	}
	close(next)
	var g errgroup.Group
	for range connections {
		g.Go(func() error {
			for t := range next {
				answer, err := client.Check(ctx, checkOf(t))
				if err != nil {
					return err
				}
				if code := codes.Code(answer.GetStatus().GetCode()); code != codes.OK { //nolint:gosec // a code of gRPC
					return fmt.Errorf("the first use of a child is answered %s", code)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return awaitCount(ctx, metrics, gatePromoted, before+len(tokens))
}

// checkOf is what Envoy asks about the first request with a token.
func checkOf(t newToken) *authv3.CheckRequest {
	headers := &corev3.HeaderMap{}
	for _, h := range [][2]string{
		{":authority", "app.example.com"},
		{":method", "GET"},
		{":path", "/api/me"},
		{":scheme", "https"},
		{"cookie", "sAccessToken=" + t.text},
		{"sec-fetch-site", "same-origin"},
		{"sec-fetch-mode", "cors"},
		{"sec-fetch-dest", "empty"},
		{"user-agent", userAgent},
	} {
		headers.Headers = append(headers.Headers, &corev3.HeaderValue{Key: h[0], RawValue: []byte(h[1])})
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: http.MethodGet, Path: "/api/me", Host: "app.example.com", Scheme: "https", HeaderMap: headers},
	}}}
}

// countOf reads a counter of a process.
func countOf(ctx context.Context, url string, counter *regexp.Regexp) (int, error) {
	text, err := ask(ctx, http.MethodGet, url, "", nil)
	if err != nil {
		return 0, err
	}
	m := counter.FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%s does not have the counter %s", url, counter)
	}
	return strconv.Atoi(string(m[1]))
}

// awaitCount waits until a counter has risen to want.
func awaitCount(ctx context.Context, url string, counter *regexp.Regexp, want int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		n, err := countOf(ctx, url, counter)
		if err != nil || n >= want {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s counts %d of %d promotions", url, n, want)
		case <-ticker.C:
		}
	}
}
