// Command bench measures sessiongate side by side with others, on this machine and in one run.
//
// Its numbers are ratios: how fast a machine is, and what else it does, is in both sides of a ratio.
// So the contenders take turns, and each ratio is taken within one round (contest.go).
package main

import "time"

// bench is what the parts share.
type bench struct {
	rounds      int
	turn        time.Duration
	dir         string // for files of the run
	quick       bool   // proves that it runs; the numbers mean nothing
	full        bool   // also what takes long
	sessiongate string // path of the built binary
}
func main() {}
