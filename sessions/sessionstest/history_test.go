package sessionstest_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// A story is a history by hand: every operation has the second of its call and of its return. It
// begins with a sign-in at 0. At 20, the grace of the first token has passed.
type story []sessionstest.Op

func signedIn(honest bool) story {
	return story{{
		Session: "s", Call: 0, Return: time.Second, Did: sessionstest.Created, Told: sessionstest.Done,
		Access: pass("t0", "", 1), Honest: honest,
	}}
}

func pass(own, parent string, version int64) sessionstest.AccessPass {
	return sessionstest.AccessPass{Own: own, Parent: parent, Version: version, Claims: "c" + string(rune('0'+version))}
}

// and adds an operation, from one second to another.
func (s story) and(from, to int, op sessionstest.Op) story {
	op.Session, op.Call, op.Return = "s", time.Duration(from)*time.Second, time.Duration(to)*time.Second
	return append(slices.Clip(s), op)
}

func (s story) refresh(from, to int, token, client string, told sessionstest.Told, access sessionstest.AccessPass) story {
	return s.and(from, to, sessionstest.Op{Did: sessionstest.Refreshed, Token: token, Client: client, Told: told, Access: access})
}

func (s story) check(from, to int, replica int, access sessionstest.AccessPass, told sessionstest.Told) story {
	return s.and(from, to, sessionstest.Op{Did: sessionstest.Checked, Replica: replica, Access: access, Told: told})
}

func (s story) end(from, to int) story {
	return s.and(from, to, sessionstest.Op{Did: sessionstest.Ended, Told: sessionstest.Done})
}

func (s story) patch(from, to int, claims string) story {
	return s.and(from, to, sessionstest.Op{Did: sessionstest.Changed, Told: sessionstest.Done, Claims: claims})
}

// key is a registration or a proof with a key, and with the first refresh token.
func (s story) key(from, to int, did sessionstest.Deed, key string, told sessionstest.Told, access sessionstest.AccessPass) story {
	return s.and(from, to, sessionstest.Op{Did: did, Key: key, Token: "t0", Told: told, Access: access, Asked: time.Duration(from) * time.Second})
}

// proven is the access token of a proof.
func proven(own string) sessionstest.AccessPass {
	p := pass(own, "", 1)
	p.Bound, p.Life = true, 10*time.Minute
	return p
}

// poll is of replica 1; what ends sessions and changes claims is replica 0.
func (s story) poll(from, to int) story {
	return s.and(from, to, sessionstest.Op{Did: sessionstest.Polled, Replica: 1})
}

// TestCheckHistory: a checker that accepts everything proves nothing, and one that refuses what may
// happen cannot be trusted. So each broken promise is told here, beside a right story that is
// almost the same.
func TestCheckHistory(t *testing.T) {
	const (
		child, keep, superseded, ended, theft = sessionstest.Child, sessionstest.Kept, sessionstest.Superseded, sessionstest.ToldEnded, sessionstest.Theft
		allowed, tryRefresh, unauthorised     = sessionstest.Allowed, sessionstest.TryRefresh, sessionstest.Unauthorised
	)
	none := sessionstest.AccessPass{}
	t0, t1, t2 := pass("t0", "", 1), pass("t1", "t0", 1), pass("t2", "t0", 1)
	generated := signedIn(false).refresh(20, 21, "t0", "v", child, t1)
	honest := signedIn(true).refresh(20, 21, "t0", "v", child, t1)
	promoted := generated.check(22, 23, 0, t1, allowed).refresh(24, 25, "t1", "v", keep, pass("t1", "", 1))
	const (
		registered, proved                      = sessionstest.Registered, sessionstest.Proved
		done, noDevice, proves, asBefore, first = sessionstest.Done, sessionstest.NoDevice, sessionstest.Proven, sessionstest.AsBefore, sessionstest.ProveFirst
	)
	long := t1
	long.Life = time.Hour
	withKey := signedIn(false).key(2, 3, registered, "own", done, none)
	bound := withKey.key(4, 5, proved, "own", proves, proven("t0"))
	// Bound while a child is there that was never used.
	withChild := generated.key(22, 23, registered, "own", done, none).key(24, 25, proved, "own", proves, proven("t0"))
	signsOut := sessionstest.Op{Did: sessionstest.SignedOut, Told: done}
	sentToProve := sessionstest.Op{Did: sessionstest.SignedOut, Told: first}
	for name, tc := range map[string]struct {
		story story
		right bool
	}{
		"bound by a proof":                         {bound, true},
		"registered, and refreshed as before":      {withKey.refresh(20, 21, "t0", "v", child, t1), true},
		"registered, and a token that lives long":  {withKey.refresh(20, 21, "t0", "v", child, long), false},
		"registered is not bound":                  {withKey.refresh(20, 21, "t0", "v", first, none), false},
		"a child of a bound session":               {bound.refresh(20, 21, "t0", "x", child, t1), false},
		"a child beside the first proof":           {withKey.key(20, 22, proved, "own", proves, proven("t0")).refresh(20, 21, "t0", "v", child, t1), true},
		"an access token of a bound session":       {bound.refresh(6, 7, "t0", "v", keep, pass("t0", "", 1)), false},
		"a bound session is sent to prove":         {bound.refresh(20, 21, "t0", "x", first, none), true},
		"as before, after a proof":                 {bound.refresh(6, 7, "t0", "v", asBefore, none), true},
		"as before, long after a proof":            {bound.refresh(40, 41, "t0", "v", asBefore, none), false},
		"a bound session is stolen":                {withChild.refresh(60, 61, "tx", "x", theft, none), false},
		"a thief ends a bound session":             {bound.refresh(60, 61, "t0", "x", ended, none), false},
		"a key is replaced":                        {withKey.key(4, 5, registered, "thief", done, none), false},
		"a key is not replaced":                    {withKey.key(4, 5, registered, "thief", noDevice, none), true},
		"a key is registered twice":                {withKey.key(4, 5, registered, "own", done, none), true},
		"a key is refused for nothing":             {signedIn(true).key(4, 5, registered, "own", noDevice, none), false},
		"a key after the challenge's life":         {signedIn(true).key(70, 71, registered, "own", done, none), false},
		"another key's proof":                      {bound.key(6, 7, proved, "thief", proves, proven("t0")), false},
		"another key's proof is refused":           {bound.key(6, 7, proved, "thief", noDevice, none), true},
		"the key's proof is refused":               {bound.key(6, 7, proved, "own", noDevice, none), false},
		"the key's proof ends the session":         {bound.key(6, 7, proved, "own", ended, none), false},
		"a proof without a key":                    {signedIn(true).key(6, 7, proved, "own", proves, proven("t0")), false},
		"a proof brings a token of none":           {bound.key(6, 7, proved, "own", proves, pass("t0", "", 1)), false},
		"a proof after the end (I4)":               {bound.end(6, 7).key(8, 9, proved, "own", proves, proven("t0")), false},
		"a proof after the end, told so":           {bound.end(6, 7).key(8, 9, proved, "own", ended, none), true},
		"another key's proof after the end":        {bound.end(6, 7).key(8, 9, proved, "thief", noDevice, none), true},
		"another key's proof is told of the end":   {bound.end(6, 7).key(8, 9, proved, "thief", ended, none), false},
		"a proof brings old claims":                {bound.patch(6, 7, "c2").key(8, 9, proved, "own", proves, proven("t0")), false},
		"a lost proof":                             {withKey.key(4, 5, proved, "own", sessionstest.Unknown, none).refresh(20, 21, "t0", "v", first, none), true},
		"a lost proof that was none":               {withKey.key(4, 5, proved, "own", sessionstest.Unknown, none).refresh(20, 21, "t0", "v", child, t1), true},
		"a lost registration":                      {signedIn(true).key(2, 3, registered, "own", sessionstest.Unknown, none).key(4, 5, proved, "own", proves, proven("t0")), true},
		"a bound session is signed out by a token": {bound.and(6, 7, signsOut), false},
		"a sign-out is sent to prove":              {bound.and(6, 7, sentToProve).key(8, 9, proved, "own", proves, proven("t0")), true},
		"a sign-out is sent to prove for nothing":  {withKey.and(6, 7, sentToProve), false},
		"a child of before is used":                {withChild.check(26, 27, 0, t1, allowed).key(40, 41, proved, "own", proves, proven("t1")), true},

		"nothing":                          {signedIn(true), true},
		"one child for all":                {generated.refresh(20, 22, "t0", "v", child, t1), true},
		"two children for one token (R5)":  {generated.refresh(20, 22, "t0", "v", child, t2), false},
		"another child after W (R4)":       {generated.refresh(60, 61, "t0", "w", child, t2), true},
		"the same child after W (R4)":      {generated.refresh(60, 61, "t0", "w", child, t1), false},
		"the child to another client (R5)": {generated.refresh(22, 23, "t0", "w", child, t1), false},
		"another client is superseded":     {generated.refresh(22, 23, "t0", "w", superseded, none), true},
		"a child within G (R3)":            {promoted.refresh(26, 27, "t1", "v", child, pass("t3", "t1", 1)), false},
		"a child after G":                  {promoted.refresh(46, 47, "t1", "v", child, pass("t3", "t1", 1)), true},
		"a child without a parent":         {generated.refresh(20, 22, "t0", "v", child, pass("t2", "tx", 1)), false},
		"a child whose parent is another": {
			promoted.refresh(46, 47, "t1", "v", child, pass("t3", "t0", 1)), false,
		},
		"both siblings current (I1)": {
			generated.refresh(60, 61, "t0", "w", child, t2).refresh(62, 63, "t2", "w", keep, pass("t2", "", 1)).refresh(64, 65, "t1", "v", keep, pass("t1", "", 1)), false,
		},
		"the sibling is theft": {
			generated.refresh(60, 61, "t0", "w", child, t2).refresh(62, 63, "t2", "w", keep, pass("t2", "", 1)).refresh(64, 65, "t1", "v", theft, none), true,
		},
		"the previous one within G":       {promoted.refresh(26, 27, "t0", "v", keep, pass("t1", "", 1)), true},
		"it is theft at once":             {promoted.refresh(26, 27, "t0", "v", theft, none), false},
		"it stays for good (I3)":          {promoted.refresh(46, 47, "t0", "v", keep, pass("t1", "", 1)), false},
		"it is theft after G (I3)":        {promoted.refresh(46, 47, "t0", "v", theft, none), true},
		"a session that was stolen lives": {promoted.refresh(46, 47, "t0", "v", theft, none).refresh(48, 49, "t1", "v", child, pass("t3", "t1", 1)), false},
		"a stolen session has ended":      {promoted.refresh(46, 47, "t0", "v", theft, none).refresh(48, 49, "t1", "v", ended, none), true},
		"ended for nothing (I2)":          {honest.refresh(22, 23, "t0", "v", ended, none), false},
		"an honest client is ended (I2)": {
			honest.check(22, 23, 0, t1, allowed).refresh(46, 47, "t0", "v", theft, none), false,
		},
		"an access token of the parent": {promoted.refresh(26, 27, "t1", "v", keep, pass("t0", "", 1)), false},
		"a promotion without a use":     {generated.refresh(40, 41, "t0", "v", superseded, none), false},

		"tokens after the end (I4)":              {generated.end(22, 23).refresh(24, 25, "t0", "v", child, t1), false},
		"tokens beside the end":                  {generated.end(22, 25).refresh(23, 26, "t0", "v", child, t1), true},
		"tokens after a client was told ended":   {generated.end(22, 30).refresh(23, 24, "t0", "v", ended, none).refresh(25, 26, "t0", "v", child, t1), false},
		"ended twice":                            {generated.end(22, 23).end(24, 25), false},
		"allowed where it was ended":             {generated.end(22, 23).check(24, 25, 0, t0, allowed), false},
		"allowed beside the end":                 {generated.end(22, 24).check(23, 25, 0, t0, allowed), true},
		"allowed elsewhere":                      {generated.end(22, 23).check(24, 25, 1, t0, allowed), true},
		"allowed elsewhere after a poll (I4)":    {generated.end(22, 23).poll(24, 25).check(26, 27, 1, t0, allowed), false},
		"allowed elsewhere after an older poll":  {generated.end(22, 24).poll(23, 25).check(26, 27, 1, t0, allowed), true},
		"denied elsewhere, then allowed (I4)":    {generated.end(22, 23).check(24, 25, 1, t0, unauthorised).check(26, 27, 1, t0, allowed), false},
		"denied for nothing":                     {generated.check(24, 25, 1, t0, unauthorised), false},
		"a theft that a poll tells of is denied": {promoted.refresh(46, 47, "t0", "v", theft, none).poll(48, 49).check(50, 51, 1, t1, allowed), false},

		"new claims":                             {generated.patch(22, 23, "c2").refresh(24, 25, "t0", "v", child, pass("t1", "t0", 2)), true},
		"old claims after a PATCH":               {generated.patch(22, 23, "c2").refresh(24, 25, "t0", "v", child, t1), false},
		"old claims beside a PATCH":              {generated.patch(22, 25, "c2").refresh(23, 24, "t0", "v", child, t1), true},
		"claims of another version":              {generated.patch(22, 23, "cx").refresh(24, 25, "t0", "v", child, pass("t1", "t0", 2)), false},
		"two changes, one version":               {generated.patch(22, 23, "c3").patch(23, 24, "c2").refresh(25, 26, "t0", "v", child, pass("t1", "t0", 2)), false},
		"two changes, two versions":              {generated.patch(22, 23, "c2").patch(24, 25, "c3").refresh(26, 27, "t0", "v", child, pass("t1", "t0", 3)), true},
		"old claims where they were changed":     {generated.patch(22, 23, "c2").check(24, 25, 0, t0, allowed), false},
		"old claims elsewhere":                   {generated.patch(22, 23, "c2").check(24, 25, 1, t0, allowed), true},
		"old claims elsewhere after a poll":      {generated.patch(22, 23, "c2").poll(24, 25).check(26, 27, 1, t0, allowed), false},
		"old claims elsewhere, then asked again": {generated.patch(22, 23, "c2").check(24, 25, 1, t0, tryRefresh).check(26, 27, 1, t0, allowed), false},
		"asked to refresh for nothing":           {generated.check(24, 25, 1, t0, tryRefresh), false},
		"changed after the end":                  {generated.end(22, 23).patch(24, 25, "c2"), false},

		"a lost answer, and its child": {
			signedIn(true).refresh(20, 21, "t0", "v", sessionstest.Unknown, none).refresh(24, 25, "t0", "v", child, t1), true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := sessionstest.CheckHistory(tc.story)
			if (err == nil) != tc.right {
				t.Errorf("refused: %v, want right: %v", err, tc.right)
			}
			if err != nil && strings.Contains(err.Error(), "undecided") {
				t.Error("undecided")
			}
		})
	}
}
