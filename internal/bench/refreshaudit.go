package main

import (
	"bytes"
	"context"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// auditGoal is the ratio of throughput that a cost of 1.1 leaves.
const auditGoal = 0.91

// auditPart measures what the audit costs a refresh and a sign-in: two processes serve from one
// database, and one of them writes and delivers audit events. Postgres is durable, as an audit asks.
func auditPart(ctx context.Context, b *bench) ([]result, error) {
	d, err := deploy(ctx, b, cluster.Options{Durable: true})
	if err != nil {
		return nil, err
	}
	defer d.stop(ctx)
	without, err := d.serve(ctx, b.sessiongate)
	if err != nil {
		return nil, err
	}
	with, err := d.serve(ctx, b.sessiongate, "SESSIONGATE_AUDIT_OUTPUT="+d.file("audit.jsonl"))
	if err != nil {
		return nil, err
	}
	users, err := d.signInAll(ctx, without, b.population())
	if err != nil {
		return nil, err
	}
	refreshes, signIns := browserRequests(users, refreshPath), d.signIns("/v1/sessions")
	var results []result
	for _, step := range []struct {
		action

		requests [][]byte
		listener func(*child) string
	}{
		{
			action{name: "audit: refresh, R4", why: "Aim: at most 1.1 times the cost.", goal: auditGoal, before: d.before(due), once: true, judge: answers(true), after: d.issuedOnce},
			refreshes, publicOf,
		},
		{action{name: "audit: sign-in", why: "Aim: at most 1.1 times the cost.", goal: auditGoal, before: d.restore, judge: isCreated}, signIns, internalOf},
	} {
		table, err := d.compare(ctx, step.action, []rival{
			{"without audit", without.PID(), step.listener(without), step.requests},
			{"with audit.output", with.PID(), step.listener(with), step.requests},
		})
		if err != nil {
			return nil, err
		}
		results = append(results, table)
	}
	return results, nil
}

func publicOf(c *child) string { return c.at.Public }

func internalOf(c *child) string { return c.at.Internal }

// signIns are requests to create sessions, with another path for the bare handler.
func (d *deployment) signIns(path string) [][]byte {
	requests := make([][]byte, 256)
	for i := range requests {
		requests[i] = bytes.Replace(userSignIn(d.apiKey, i), []byte("/v1/sessions"), []byte(path), 1)
	}
	return requests
}
