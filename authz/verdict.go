package authz

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sessiongate/sessiongate/sessions"
)

// Verdict is what a Check came to, in words that hold nothing of the request:
// there are as many as [Verdicts] gives, so each can be counted.
type Verdict struct {
	Outcome sessions.Outcome
	// Rule decided: that of a denial, "session" where there is one, "pass" where
	// none was asked for.
	Rule string
	// Code says it for machines, a denial's or what passed.
	Code string
	// Why is a sentence, or empty where there is no more to say.
	Why string

	// metadata is what Envoy is told of it, shared by all answers. That of a
	// session has more (identity).
	metadata *structpb.Struct
}

// The verdicts that are no denials.
var (
	verdictSession   = newVerdict(sessions.Allow, "session", "session", "")
	verdictAuthPath  = newVerdict(sessions.Allow, "pass", "auth_path", "the request is for the refresh or the sign-out path, which have rules of their own")
	verdictPreflight = newVerdict(sessions.Allow, "pass", "preflight", "a CORS preflight carries no cookies")
	verdictLoginPage = newVerdict(sessions.Allow, "pass", "login_page", "the login page is open to all")
	verdictOptional  = newVerdict(sessions.Allow, "pass", "optional", "the route asks for no session")
)

// others are for denials that no list has, by outcome.
var others = func() map[sessions.Outcome]*Verdict {
	m := map[sessions.Outcome]*Verdict{}
	for _, o := range []sessions.Outcome{sessions.Unavailable, sessions.TryRefresh, sessions.Unauthorised, sessions.Forbidden} {
		m[o] = newVerdict(o, "other", "other", "a denial of another kind")
	}
	return m
}()

// denials are those of this package and of Verify.
var denials = func() map[*sessions.Denial]*Verdict {
	all := append(sessions.Denials(),
		denyLegacy, denyAntiCSRF, denyForeign, denyHop, denyClaims, denyMaxAge, denyIdentity, denyPolicy, denyLines, denyPanic,
		denyPathForm, denyPathSpelling, denyHostForm)
	m := make(map[*sessions.Denial]*Verdict, len(all))
	for _, d := range all {
		m[d] = newVerdict(d.Outcome, d.Rule, d.Code, d.Message)
	}
	return m
}()

// Verdicts are all that a Check can come to, one value each.
func Verdicts() []*Verdict {
	all := []*Verdict{verdictSession, verdictAuthPath, verdictPreflight, verdictLoginPage, verdictOptional}
	all = slices.AppendSeq(all, maps.Values(denials))
	return slices.AppendSeq(all, maps.Values(others))
}

func newVerdict(outcome sessions.Outcome, rule, code, why string) *Verdict {
	v := &Verdict{Outcome: outcome, Rule: rule, Code: code, Why: why}
	v.metadata = &structpb.Struct{Fields: v.fields()}
	return v
}

// fields are what Envoy's access log and filters learn of every answer.
func (v *Verdict) fields() map[string]*structpb.Value {
	return map[string]*structpb.Value{
		"outcome": structpb.NewStringValue(v.Outcome.String()),
		"rule":    structpb.NewStringValue(v.Rule),
		"code":    structpb.NewStringValue(v.Code),
	}
}

// verdict of the decision; never nil.
func (d decision) verdict() *Verdict {
	switch {
	case d.denial != nil:
		if v, ok := denials[d.denial]; ok {
			return v
		}
		if v, ok := others[d.denial.Outcome]; ok {
			return v
		}
		return others[sessions.Unavailable] // as respond has it
	case d.identity != nil:
		return verdictSession
	case d.passed != nil:
		return d.passed
	default:
		return others[sessions.Unavailable]
	}
}
