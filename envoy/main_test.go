package envoy_test

import (
	"os"
	"testing"
)

// atEnd is run after the last test.
var atEnd []func()

func TestMain(m *testing.M) {
	code := m.Run()
	for _, stop := range atEnd {
		stop()
	}
	os.Exit(code)
}
