// Package sessionstest owns what tests of the engine and of its stores share: an
// in-memory store with faults ([NewMemory]), the suite that every store passes
// ([Conformance]), the sequences that an engine over any store survives
// ([Scenarios]), and the specification that what many clients did at once, and were
// told, is held to ([CheckHistory]). It is for tests only.
package sessionstest
