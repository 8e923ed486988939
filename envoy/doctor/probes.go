package doctor

// Probe is one of the twenty faults, and where it shows.
type Probe struct {
	ID string
	// Fault is what the probe finds.
	Fault string
	// Configuration and Outside say where it shows: in Envoy's configuration, in what comes back through it.
	Configuration, Outside bool
}

// Probes are all probes, in their order.
func Probes() []Probe {
	const in, out = true, true
	return []Probe{
		{"D1", "no check on a page that should have one", in, out},
		{"D2", "an answer of sessiongate is replaced by another", in, out},
		{"D3", "a client's own identity headers arrive", in, out},
		{"D4", "sessiongate's identity headers do not arrive", in, out},
		{"D5", "header lines are joined", in, out},
		{"D6", "one request, two readings of its path", in, out},
		{"D7", "the auth path is not sessiongate's alone", in, out},
		{"D8", "cookies do not arrive", in, out},
		{"D9", "frontends of other origins: too many, or none", in, out},
		{"D10", "scripts of other origins cannot read what they need", in, out},
		{"D11", "a client chooses its own address", in, out},
		{"D12", "all clients have one address", false, out},
		{"D13", "the policy of a route is off, or misspelt", in, out},
		{"D14", "the inside is reachable from outside", in, out},
		{"D15", "what is not checked passes", in, false},
		{"D16", "exceptions open more than they say", in, false},
		{"D17", "the check may do more than it needs, or has no time", in, false},
		{"D18", "sessiongate does not get what it decides by", in, false},
		{"D19", "a stream stays open for ever", in, false},
		{"D20", "one protocol is configured differently", false, out},
	}
}
