// Package sessionstest owns what the tests of the engine and of its stores share. It is for tests
// only.
//
//   - [Conformance] and [Audit] are the suites that every store passes.
//   - [Scenarios] are the sequences that an engine over any store survives.
//   - [CheckHistory] says whether the protocol allows what many clients did at once and were told.
package sessionstest
