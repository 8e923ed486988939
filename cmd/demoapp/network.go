package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
)

// What lies between the browser and Envoy in the demo. It is the one place where the
// answer of any request can get lost, as it does in a tunnel, and where what passes can
// be seen with its cookies, which no page's script can read. It also answers what is the
// stage's alone, so that nothing of the stage is a use of a token.

const (
	requestHeader = "X-Stage-Request" // the name that the page gave to a request
	loseHeader    = "X-Stage-Lose"    // the answer is to get lost
	networkHeader = "X-Stage-Network" // came this way; its value is known to this process alone
	proofHeader   = "X-Stage-Proof"   // of a sign-in, told to the page that made it
	unboundHeader = "X-Stage-Unbound" // the sign-in's answer is not to offer to bind the session

	stagePath = "/stage/"
)

// network passes requests on to Envoy.
func (a *app) network() http.Handler {
	stage := http.NewServeMux()
	stage.HandleFunc("POST /stage/expire", a.expire)
	stage.HandleFunc("POST /stage/thief", a.openThief)
	stage.HandleFunc("POST /stage/thief/refresh", command(a, a.thieves, (*thief).refresh))
	stage.HandleFunc("POST /stage/thief/outlive", command(a, a.thieves, (*thief).outlive))
	stage.HandleFunc("POST /stage/thief/call", command(a, a.thieves, (*thief).call))
	stage.HandleFunc("POST /stage/laptop", a.openLaptop)
	stage.HandleFunc("POST /stage/laptop/signin", command(a, a.laptops, (*laptop).signIn))
	stage.HandleFunc("POST /stage/laptop/bind", command(a, a.laptops, (*laptop).bind))
	stage.HandleFunc("POST /stage/laptop/prove", command(a, a.laptops, (*laptop).prove))
	stage.HandleFunc("POST /stage/laptop/steal", a.stealFromLaptop)
	stage.HandleFunc("GET /stage/wire/{request}", a.showPassage)
	stage.HandleFunc("GET /stage/switches", a.showSwitches)
	stage.HandleFunc("POST /stage/switches/{part}", a.turn)
	played := a.dressed(stage)

	envoy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			if at, err := url.Parse(a.stage.public()); err == nil {
				p.SetURL(at)
			}
			p.Out.URL.RawQuery = p.In.URL.RawQuery // as it came, with what Go cannot parse
			p.Out.Host = p.In.Host                 // cookies and origins are this host's
			p.Out.Header.Set(networkHeader, a.way)
		},
		Transport:      &http.Transport{MaxIdleConnsPerHost: 40, IdleConnTimeout: actorIdle},
		ModifyResponse: a.pass,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			a.log.WarnContext(r.Context(), "asking Envoy", "error", err)
			http.Error(w, "Envoy does not answer.", http.StatusBadGateway)
		},
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, stagePath) {
			played.ServeHTTP(w, r)
			return
		}
		envoy.ServeHTTP(w, r)
	})
}

// pass notes an answer, and loses it where it was asked to.
func (a *app) pass(answer *http.Response) error {
	// A redirect is no answer yet: a browser with a bound session proves its key on the way, and then asks
	// again, with the same headers.
	lost := answer.Request.Header.Get(loseHeader) != "" && answer.StatusCode != http.StatusTemporaryRedirect
	if name := answer.Request.Header.Get(requestHeader); name != "" {
		a.wire.sent(name, answer.Request)
		a.wire.answered(name, answer.StatusCode, answer.Header, lost)
	}
	if !lost {
		return nil
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxBody))
	_ = answer.Body.Close()
	// The browser learns no more than that a gateway on its way gave up. The stage,
	// which sees everything, is told which tokens were on the way.
	told := map[string]any{"lost": answer.StatusCode, "front_token": answer.Header.Get("Front-Token")}
	body, err := json.Marshal(told)
	if err != nil {
		return err
	}
	answer.StatusCode, answer.Status = http.StatusGatewayTimeout, ""
	answer.Header = http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}}
	answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return nil
}
