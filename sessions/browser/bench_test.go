package browser

import (
	"strings"
	"testing"
)

// BenchmarkStripCookies is what a Cookie header of 54 KB costs each Check, as it is and with a
// planted cookie that must go. The client chooses how many pairs there are; their number must not
// cost much.
func BenchmarkStripCookies(b *testing.B) {
	for name, pair := range map[string]string{
		"long pairs": "name=0123456789abcdef0123456789abcdef; ", "short pairs": "a=b; ", "shortest": "a;", "commas": "a,",
		"almost ours": "st-access-tokens;", "ours": "st-access-token;",
		"attributes": "$Path;", "quoted with an attribute": `st-access-token="x";$Path="/"; `,
	} {
		many := strings.Repeat(pair, 54<<10/len(pair))
		for planted, header := range map[string]string{"as it is": many, "planted": "st-access-token=x; " + many} {
			b.Run(name+"/"+planted, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					StripCookies(header, "sAccessToken", "sRefreshToken", "st-access-token", "st-refresh-token")
				}
			})
		}
	}
}
