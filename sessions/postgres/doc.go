// Package postgres keeps sessions in Postgres 15 or newer.
//
// It owns the schema `sessiongate` of a database: the SQL, which is beside its methods, and the
// migrations, which are embedded and only go forward. So two versions of the program can run on one
// schema during a rollout.
//
// It promises what [sessions.Store] says, whatever settings its connections inherit. It decides
// nothing: every write is a compare-and-swap, or one transaction. It works on the primary, or not
// at all.
//
// Time is sessiongate.now(), a function of the schema, read in the statement that uses it.
package postgres
