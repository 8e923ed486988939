// Package sessionstest owns what tests of the engine and of its stores share: an
// in-memory store with faults ([NewMemory]), the suite that every store passes
// ([Conformance]), and the sequences that an engine over any store survives
// ([Scenarios]). It is for tests only.
package sessionstest
