// Package sessionstest holds what tests of sessions share: a store in memory for
// unit tests, the conformance suite that every store must pass, and the sequences
// that broke earlier designs. It is for tests only.
package sessionstest
