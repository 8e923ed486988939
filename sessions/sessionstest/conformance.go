package sessionstest

import (
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

// Conformance checks what [sessions.Store] promises, to one caller at a time and to many at once.
// open gives a fresh, empty store for each test.
func Conformance(t *testing.T, open func(t *testing.T) ClockedStore) {
	t.Helper()
	for name, check := range map[string]func(*suite){
		"create and get":                     createAndGet,
		"times":                              times,
		"not found":                          notFound,
		"handle taken":                       handleTaken,
		"limit: evict":                       limitEvicts,
		"limit: refuse":                      limitRefuses,
		"limit: other sessions":              limitOthers,
		"racing creations":                   racingCreations,
		"json bytes":                         jsonBytes,
		"list user":                          listUser,
		"update":                             update,
		"swap":                               swap,
		"swap of a changed row":              swapChanged,
		"rotate":                             rotate,
		"rotate what fits":                   rotateFits,
		"bound":                              bound,
		"racing keys of a device":            racingBoundKeys,
		"expired until swept":                expiredUntilSwept,
		"promote":                            promote,
		"promote what lost":                  promoteLost,
		"promote a batch":                    promoteBatch,
		"end":                                end,
		"end if":                             endIf,
		"end user":                           endUser,
		"end others":                         endOthers,
		"racing end others":                  racingEndOthers,
		"count sessions":                     countSessions,
		"poll":                               pollFrom,
		"poll young entries":                 pollYoung,
		"feed retention":                     retention,
		"keys":                               keys,
		"rewrap key":                         rewrapKey,
		"delete keys":                        deleteKeys,
		"racing rewraps":                     racingRewraps,
		"racing deletions of keys":           racingDeletes,
		"sweep sessions":                     sweepSessions,
		"sweep goes on":                      sweepGoesOn,
		"sweep the feed":                     sweepFeed,
		"cancelled":                          cancelled,
		"racing swaps":                       racingSwaps,
		"racing rotations":                   racingRotations,
		"racing rotation and end":            racingRotationAndEnd,
		"racing rotation, promotion, claims": racingRotationAndChanges,
		"racing ends":                        racingEnds,
		"racing updates":                     racingUpdates,
		"racing siblings":                    racingSiblings,
		"racing swap and promotion":          racingSwapAndPromotion,
		"racing keys":                        racingKeys,
		"racing retentions":                  racingRetentions,
		"racing sweeps":                      racingSweeps,
		"following the feed":                 followingTheFeed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(&suite{T: t, store: open(t)})
		})
	}
}

// suite is one test of a store.
type suite struct {
	*testing.T

	store ClockedStore
}

const (
	slidingLife  = time.Hour
	absoluteLife = 24 * time.Hour
)

var (
	revoked  = sessions.Ending{Reason: sessions.ReasonRevoked, Actor: "test"}
	theft    = sessions.Ending{Reason: sessions.ReasonTheft, Actor: "test"}
	atOnce   = 16 // callers of a race
	someHash = sessions.TokenHash{1}
)
