package main

// storeParts are the parts that measure what needs Postgres.
var storeParts = []part{refreshPart, storePart}
