package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// measurement is what one turn of one contender gave.
type measurement struct {
	requests int             // answered in the turn
	took     time.Duration   // of the turn
	cpu      time.Duration   // CPU of the processes under test (not of the load generator)
	latency  []time.Duration // sampled; may be nil
}

// contender is one of those that are compared. play runs one turn.
type contender struct {
	name string
	play func(ctx context.Context) (measurement, error)
}

// inTurn plays several of one kind, one after the other.
func inTurn[P interface {
	play(turn time.Duration) (measurement, error)
}](players []P, turn time.Duration) func(context.Context) (measurement, error) {
	next := 0
	return func(context.Context) (measurement, error) {
		next++
		return players[next%len(players)].play(turn)
	}
}

// contest plays the contenders in turns, so that whatever else the machine does is done to all.
// The first contender is the baseline (ratio 1).
type contest struct {
	title, unit, why string
	contenders       []contender
	goal             map[string]float64 // name -> ratio aimed at
	// byCPU makes the ratio one of CPU a request: less is better, and goal is the most.
	byCPU bool
	// against are further baselines, each with a column of ratios.
	against []string
}

// part is one section of a run: -only selects parts by name.
type part struct {
	name, doc string
	run       func(ctx context.Context, b *bench) ([]result, error)
	page      string // of docs, which gets the tables
}

// result is one table, and one plot where there are bars. A contest makes one; a part that measures
// something else fills it in itself.
type result struct {
	title, why string
	head       []string // of the table's columns
	rows       [][]string
	unit       string // of the bars
	bars       []bar
	throughput map[string]float64 // median of each contender, requests a second
}

// bar is one line of a plot.
type bar struct {
	name  string
	value spread
	goal  float64 // 0: none
}

// spread is a median between its quartiles.
type spread struct{ low, mid, high float64 }

// spreadOf returns the quartiles of values, between which it interpolates.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	at := func(share float64) float64 {
		place := share * float64(len(sorted)-1)
		below := int(place)
		if below+1 == len(sorted) {
			return sorted[below]
		}
		return sorted[below] + (place-float64(below))*(sorted[below+1]-sorted[below])
	}
	return spread{low: at(0.25), mid: at(0.5), high: at(0.75)}
}

// text is the median and, in brackets, the quartiles.
func (s spread) text(digits int) string {
	f := func(v float64) string { return strconv.FormatFloat(v, 'f', digits, 64) }
	if s.low == s.high {
		return f(s.mid)
	}
	return f(s.mid) + " (" + f(s.low) + "–" + f(s.high) + ")"
}

// ratio is that of one turn to another.
func (c contest) ratio(m, base measurement) float64 {
	if c.byCPU {
		return m.cpuEach() / base.cpuEach()
	}
	return m.perSecond() / base.perSecond()
}

// perSecond is the throughput.
func (m measurement) perSecond() float64 { return float64(m.requests) / m.took.Seconds() }

// cpuEach is the CPU of a request, in microseconds.
func (m measurement) cpuEach() float64 {
	return float64(m.cpu.Nanoseconds()) / 1e3 / float64(m.requests)
}

// tally collects the rounds of one contender.
type tally struct {
	// one value a round; cpu in microseconds a request, busy in percent of a core
	throughput, cpu, busy []float64
	ratios                [][]float64 // to each baseline
	latency               []time.Duration
}

// run plays rounds rounds. Every ratio is taken within its own round: only then do both of its sides
// see the same machine. One turn of each comes before, to warm up, and does not count.
func (c contest) run(ctx context.Context, rounds int) (result, error) {
	bases := []int{0}
	for _, name := range c.against {
		bases = append(bases, slices.IndexFunc(c.contenders, func(p contender) bool { return p.name == name }))
	}
	tallies := make([]tally, len(c.contenders))
	for i := range tallies {
		tallies[i].ratios = make([][]float64, len(bases))
	}
	for round := range rounds + 1 {
		turns := make([]measurement, len(c.contenders))
		for i, p := range c.contenders {
			if err := ctx.Err(); err != nil {
				return result{}, fmt.Errorf("%s: %w", c.title, err)
			}
			m, err := p.play(ctx)
			if err == nil && (m.requests == 0 || m.took <= 0) {
				err = fmt.Errorf("no request was answered in a turn of %s", m.took)
			}
			if err != nil {
				return result{}, fmt.Errorf("%s: %s: %w", c.title, p.name, err)
			}
			turns[i] = m
		}
		if round == 0 {
			continue
		}
		for i, m := range turns {
			t := &tallies[i]
			t.throughput = append(t.throughput, m.perSecond())
			t.cpu = append(t.cpu, m.cpuEach())
			t.busy = append(t.busy, 100*m.cpu.Seconds()/m.took.Seconds())
			t.latency = append(t.latency, m.latency...)
			for j, base := range bases {
				t.ratios[j] = append(t.ratios[j], c.ratio(m, turns[base]))
			}
		}
	}
	return c.result(tallies), nil
}

// result is the table of what was tallied.
func (c contest) result(tallies []tally) result {
	ratio, bound := "throughput, ", "≥ "
	if c.byCPU {
		ratio, bound = "CPU, ", "≤ "
	}
	r := result{
		title: c.title, why: c.why, unit: ratio + "as a ratio to: " + c.contenders[0].name,
		throughput: map[string]float64{},
		head:       []string{"", c.unit + "/s", "core, %", "CPU µs each", ratio + "ratio", "aim"},
	}
	for _, name := range c.against {
		r.head = append(r.head, "ratio to: "+name)
	}
	timed := slices.ContainsFunc(tallies, func(t tally) bool { return len(t.latency) > 0 })
	if timed {
		r.head = append(r.head, "p50", "p99", "p99.9")
	}
	for i, p := range c.contenders {
		t := &tallies[i]
		aim := ""
		if goal := c.goal[p.name]; goal > 0 {
			aim = bound + strconv.FormatFloat(goal, 'f', -1, 64)
		}
		row := []string{p.name, spreadOf(t.throughput).text(0), strconv.FormatFloat(spreadOf(t.busy).mid, 'f', 0, 64), spreadOf(t.cpu).text(1), spreadOf(t.ratios[0]).text(2), aim}
		for _, ratios := range t.ratios[1:] {
			row = append(row, spreadOf(ratios).text(2))
		}
		if timed {
			row = append(row, percentiles(t.latency)...)
		}
		r.rows = append(r.rows, row)
		r.throughput[p.name] = spreadOf(t.throughput).mid
		r.bars = append(r.bars, bar{name: p.name, value: spreadOf(t.ratios[0]), goal: c.goal[p.name]})
	}
	return r
}

// percentiles are the texts of p50, p99 and p99.9.
func percentiles(latency []time.Duration) []string {
	if len(latency) == 0 {
		return []string{"", "", ""}
	}
	slices.Sort(latency)
	texts := make([]string, 0, 3)
	for _, share := range []float64{0.5, 0.99, 0.999} {
		texts = append(texts, latency[int(share*float64(len(latency)-1))].Round(time.Microsecond).String())
	}
	return texts
}
