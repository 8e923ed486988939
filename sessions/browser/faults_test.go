package browser

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// net/http writes no cookie of a wrong name, and drops a wrong Domain: the first sign-in would find
// it out.
func TestFaultsOfNamesAndDomains(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		edit func(*Cookies)
		want []string
	}{
		{"defaults", func(*Cookies) {}, nil},
		{"domains", func(c *Cookies) { c.Domain, c.FrontendDomain = "example.com", "1a.example.com" }, nil},
		{"no letter", func(c *Cookies) { c.Domain, c.FrontendDomain = "1-2.3-4", "1-2.3-4" }, []string{"Domain", "FrontendDomain"}},
		{"an empty label", func(c *Cookies) { c.Domain = "a..example.com" }, []string{"Domain"}},
		{"a hyphen first", func(c *Cookies) { c.FrontendDomain = "-a.example.com" }, []string{"FrontendDomain"}},
		{"an attribute", func(c *Cookies) { c.Domain = "example.com; Path=/x" }, []string{"Domain"}},
		{"no names", func(c *Cookies) { c.AccessName, c.RefreshName = "", "a b" }, []string{"AccessName", "RefreshName"}},
		{"a line end", func(c *Cookies) { c.AccessName = "a\r\nb" }, []string{"AccessName"}},
		{"no name after __Host-", func(c *Cookies) { c.HostPrefix, c.AccessName = true, "" }, []string{"AccessName"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := DefaultCookies()
			tc.edit(&c)
			var got []string
			for _, f := range c.Faults() {
				got = append(got, f.Fields...)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("faulty fields (-want +got):\n%s", diff)
			}
		})
	}
}
