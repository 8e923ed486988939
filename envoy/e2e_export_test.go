package envoy

// What the end-to-end tests, in package envoy_test, share with the tests of this package.
var (
	Patient       = patient
	DieWithParent = dieWithParent
)

// AtEnd is run after the last test of both packages.
var AtEnd []func()
