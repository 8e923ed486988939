// Package envoy owns envoy.yaml, the one Envoy configuration that is shipped, and runs it: with the real Envoy, at other
// addresses, for the end-to-end tests and the demo.
//
// It promises that what runs is the shipped file: only addresses differ, every listener and cluster of the file must be given
// one (a name missing or unknown is an error), and whatever else a caller changes it changes openly, in [Options.Edit]. Several
// Envoys run side by side, on ports that the kernel chose, and none outlives its parent (on Linux, even a killed one).
//
// It is no control plane and no supervisor: it neither reloads nor restarts.
package envoy

import _ "embed"

// Version is the version of Envoy that envoy.yaml is made for and that [Binary] fetches. Another patch of its minor version is
// accepted from the environment.
const Version = "1.40.0"

//go:embed envoy.yaml
var shipped []byte

// Shipped returns a copy of envoy.yaml.
func Shipped() []byte { return append([]byte(nil), shipped...) }
