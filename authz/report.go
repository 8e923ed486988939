package authz

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sessiongate/sessiongate/sessions"
)

// Observation is what may be counted of a Check: of each field there are few values,
// whatever a client sends.
type Observation struct {
	Outcome sessions.Outcome
	// Rule and Code are those of the denial. Where the request passes, Rule is "session"
	// or "pass", and Code says what let it pass.
	Rule, Code string
	// Index is the place in [Observations].
	Index int
	Took  time.Duration
}

// Observations are all that a Check can be observed as, with no time taken, so that each
// can be counted from 0.
func Observations() []Observation { return slices.Clone(observations) }

// observations is filled as the reports are made.
var observations []Observation

// report is what the counters, the log and Envoy are told of a Check. There is one value
// for each result that a Check can have, so that telling allocates nothing.
type report struct {
	Observation

	// message is a sentence for the log, or empty where there is no more to say.
	message string
	// metadata is what Envoy's access log and filters learn, shared by all answers. That
	// of a session has more (identity).
	metadata metadata
}

// fields are those of metadata.
func (o Observation) fields() map[string]*structpb.Value {
	return map[string]*structpb.Value{
		"outcome": structpb.NewStringValue(o.Outcome.String()),
		"rule":    structpb.NewStringValue(o.Rule),
		"code":    structpb.NewStringValue(o.Code),
	}
}

func newReport(code, rule string, outcome sessions.Outcome, message string) *report {
	o := Observation{Outcome: outcome, Rule: rule, Code: code, Index: len(observations)}
	observations = append(observations, o)
	told, err := newMetadata(o.fields())
	if err != nil {
		panic(err) // all of it is written in this program
	}
	return &report{Observation: o, message: message, metadata: told}
}

// The requests that pass: with a session, or without identity.
var (
	passSession   = newReport("session", "session", sessions.Allow, "")
	passAuthPath  = newReport("auth_path", "pass", sessions.Allow, "the request is for the refresh or the sign-out path, which have rules of their own")
	passPreflight = newReport("preflight", "pass", sessions.Allow, "a CORS preflight carries no cookies")
	passLoginPage = newReport("login_page", "pass", sessions.Allow, "the login page is open to all")
	passOptional  = newReport("optional", "pass", sessions.Allow, "the route asks for no session")
)

// reports are those of the denials.
var reports = func() map[*sessions.Denial]*report {
	m := map[*sessions.Denial]*report{}
	for _, d := range slices.Concat(sessions.Denials(), Denials()) {
		m[d] = newReport(d.Code, d.Rule, d.Outcome, d.Message)
	}
	return m
}()

// deniedOutcomes are those that deny.
var deniedOutcomes = []sessions.Outcome{sessions.Unavailable, sessions.TryRefresh, sessions.Unauthorised, sessions.Forbidden}

// unlisted are for the denials of a Verifier that no list has, by outcome.
var unlisted = func() map[sessions.Outcome]*report {
	m := map[sessions.Outcome]*report{}
	for _, o := range deniedOutcomes {
		m[o] = newReport("other", "other", o, "a denial that no list has")
	}
	return m
}()

// report of the decision; never nil.
func (d decision) report() *report {
	switch {
	case d.denial != nil:
		if r, ok := reports[d.denial]; ok {
			return r
		}
		if r, ok := unlisted[d.denial.Outcome]; ok {
			return r
		}
		return unlisted[sessions.Unavailable] // as respond has it
	case d.identity != nil:
		return passSession
	case d.passed != nil:
		return d.passed
	default:
		return unlisted[sessions.Unavailable]
	}
}
