package authz

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sessiongate/sessiongate/sessions"
)

// Requirement is what a route asks of one custom claim of the session.
type Requirement struct {
	Claim string
	// OneOf are the allowed values. Where the claim is a list, one of its items must
	// have one. Booleans are true and false, numbers plain decimals (1000, not 1e3) below
	// 2^53. None: any string, number or boolean will do.
	OneOf []string
}

// value is the requirement as a setting has it.
func (q Requirement) value() string {
	if q.OneOf == nil {
		return anyValue
	}
	return strings.Join(q.OneOf, "|")
}

// anyValue is the setting for a claim that only has to be there.
const anyValue = "*"

// requirementsMax and alternativesMax bound the work on one request.
const (
	requirementsMax = 16
	alternativesMax = 32
)

// parseRequirement reads the setting require.<claim>: a value, several with "|"
// between them, or "*". A value that no session can have is refused: the route would be
// closed for ever, and the reason would be hard to find.
func parseRequirement(claim, value string) (Requirement, bool) {
	if claim == "" || sessions.IsReservedClaim(claim) {
		return Requirement{}, false
	}
	if value == anyValue {
		return Requirement{Claim: claim}, true
	}
	oneOf := strings.Split(value, "|")
	return Requirement{claim, oneOf}, len(oneOf) <= alternativesMax && !slices.Contains(oneOf, "") && !slices.Contains(oneOf, anyValue)
}

// metBy says whether the claims of a session are as required.
func (q Requirement) metBy(claims *structpb.Struct) bool {
	value := claims.GetFields()[q.Claim]
	// The web SDKs' own form of a claim has the value in v, beside the time in t.
	if object := value.GetStructValue(); object != nil {
		value = object.GetFields()["v"]
	}
	if list := value.GetListValue(); list != nil {
		return slices.ContainsFunc(list.GetValues(), q.allows)
	}
	return q.allows(value)
}

func (q Requirement) allows(value *structpb.Value) bool {
	var text string
	switch kind := value.GetKind().(type) {
	case *structpb.Value_StringValue:
		text = kind.StringValue
	case *structpb.Value_BoolValue:
		text = strconv.FormatBool(kind.BoolValue)
	case *structpb.Value_NumberValue:
		if q.OneOf != nil && math.Abs(kind.NumberValue) >= 1<<53 {
			return false // a double stands for several integers there, for other tenants' perhaps
		}
		text = strconv.FormatFloat(kind.NumberValue, 'f', -1, 64)
	default: // null, or none; an object or a list in a list
		return false
	}
	return q.OneOf == nil || slices.Contains(q.OneOf, text)
}

// claimError is one item of claimValidationErrors, in the shape that the web SDKs
// read. It tells what is required, not what the session has.
type claimError struct {
	ID     string      `json:"id"`
	Reason claimReason `json:"reason"`
}

type claimReason struct {
	Message  string   `json:"message"`
	Expected []string `json:"expectedToIncludeAtLeastOneOf,omitempty"`
}

// unbound is the claim that a session which no device proves does not have (B11).
var unbound = []claimError{{ID: "bound", Reason: claimReason{Message: "the session is not bound to a device"}}}

// unmet are the requirements of a route that a session's claims do not meet.
func unmet(required []Requirement, claims *structpb.Struct) []claimError {
	var faults []claimError
	for _, q := range required {
		if !q.metBy(claims) {
			reason := claimReason{"wrong value", q.OneOf}
			if q.OneOf == nil {
				reason.Message = "value does not exist"
			}
			faults = append(faults, claimError{q.Claim, reason})
		}
	}
	return faults
}
