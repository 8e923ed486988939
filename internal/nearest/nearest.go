// Package nearest finds what a mistyped name may have meant.
package nearest

// nameMax bounds the length of a name that is compared, in bytes: a client may send any.
const nameMax = 64

// Name is the closest of names to name, or "" if none is close.
func Name(name string, names []string) string {
	if len(name) > nameMax {
		return ""
	}
	best, least := "", len(name)/3+2
	for _, n := range names {
		if d := editDistance(name, n); d < least {
			best, least = n, d
		}
	}
	return best
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitution := diagonal
			if a[i] != b[j] {
				substitution++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitution, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
