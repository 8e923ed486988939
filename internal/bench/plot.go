package main

import (
	"fmt"
	"html"
	"strings"
)

// The measures of a plot, in pixels.
const (
	plotWidth  = 860
	labelWidth = 330
	valueWidth = 70
	barHeight  = 16
	lineHeight = 26
	plotTop    = 34
)

// plotStyle is readable on a light and on a dark page. The fonts are the reader's own.
const plotStyle = `<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.unit { fill: #59636e }
.bar { fill: #4c8bd6 }
.base { fill: #9aa4af }
.one { stroke: #59636e; stroke-dasharray: 3 3 }
.whisker { stroke: #1f2328; stroke-width: 1.5; fill: none }
.goal { stroke: #d1495b; stroke-width: 3 }
@media (prefers-color-scheme: dark) {
text, .unit { fill: #e6edf3 }
.base { fill: #6e7781 }
.one { stroke: #9da7b1 }
.whisker { stroke: #e6edf3 }
.goal { stroke: #ff7b88 }
}
</style>
`

// svg draws a bar for each contender, from its median; the whiskers are the quartiles, the dashed line
// is the baseline, and the thick stroke is the aim.
func (r result) svg() string {
	most := 1.0
	for _, b := range r.bars {
		most = max(most, b.value.high, b.goal)
	}
	at := func(value float64) float64 {
		return labelWidth + value/most*(plotWidth-labelWidth-valueWidth)
	}
	height := plotTop + lineHeight*len(r.bars) + 8
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n", plotWidth, height, plotWidth, height)
	_, _ = fmt.Fprintf(&text, "<title>%s</title>\n%s", html.EscapeString(r.title), plotStyle)
	_, _ = fmt.Fprintf(&text, `<text class="unit" x="%d" y="18">%s</text>`+"\n", labelWidth, html.EscapeString(r.unit))
	for i, b := range r.bars {
		top := float64(plotTop + lineHeight*i)
		middle := top + barHeight/2
		class := "bar"
		if i == 0 {
			class = "base"
		}
		_, _ = fmt.Fprintf(&text, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", labelWidth-10, middle+4.5, html.EscapeString(b.name))
		_, _ = fmt.Fprintf(&text, `<rect class="%s" x="%d" y="%.1f" width="%.1f" height="%d" rx="2"/>`+"\n", class, labelWidth, top, at(b.value.mid)-labelWidth, barHeight)
		if b.value.low != b.value.high {
			_, _ = fmt.Fprintf(&text, `<path class="whisker" d="M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8"/>`+"\n",
				at(b.value.low), middle, at(b.value.high), at(b.value.low), middle-4, at(b.value.high), middle-4)
		}
		if b.goal > 0 {
			_, _ = fmt.Fprintf(&text, `<path class="goal" d="M%.1f %.1fv%d"/>`+"\n", at(b.goal), top-3, barHeight+6)
		}
		_, _ = fmt.Fprintf(&text, `<text x="%.1f" y="%.1f">%.2f</text>`+"\n", max(at(b.value.high), at(b.goal))+8, middle+4.5, b.value.mid)
	}
	_, _ = fmt.Fprintf(&text, `<path class="one" d="M%.1f %dV%d"/>`+"\n</svg>\n", at(1), plotTop-6, height-4)
	return text.String()
}
