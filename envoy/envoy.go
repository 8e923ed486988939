// Package envoy owns envoy.yaml, the one Envoy configuration that is shipped, and gives its listeners and
// clusters other addresses. It knows none of Envoy's types: package typed does.
package envoy

import _ "embed"

// Version is the version of Envoy that envoy.yaml is made for and tested with.
const Version = "1.40.0"

//go:embed envoy.yaml
var shipped []byte

// Shipped returns a copy of envoy.yaml.
func Shipped() []byte { return append([]byte(nil), shipped...) }
