package authz

// loosestPath appends to buf, up to its capacity, the path as the most lenient of
// servers reads it:
//
//   - escapes are decoded, also twice;
//   - \ is taken for /, several slashes for one, and one at the end for none;
//   - parameters after ; are dropped, and all that comes after an escaped ? or #;
//   - letters are in lower case.
//
// Where buf is too short, whole is false. It is longer than any entry's path, so a path
// that was cut short fits no entry.
//
// Two kinds of path are not read (ok is false), for no reading of them is the loosest. A
// . or .. segment, however written, removes what other readings keep. An escaped slash
// after ; ends the parameters for some servers and is a part of them for others.
func loosestPath(buf []byte, path string) (read []byte, whole, ok bool) {
	if path == "" || path[0] != '/' {
		return buf, false, false
	}
	whole = true
	ended := false                          // after an escaped ? or #
	parameters, length, dots := false, 0, 0 // of the segment
	for i := 0; i < len(path); {
		c, n := decoded(path[i:])
		if i += n; n == 0 || c < ' ' || c == 0x7f {
			return buf, false, false
		}
		if c == '\\' {
			c = '/'
		}
		ends := c == '/' || c == '?' || c == '#'
		if ends && (isDots(length, dots) || parameters && path[i-1] != '/') {
			return buf, false, false
		}
		switch {
		case ends:
			ended = ended || c != '/'
			parameters, length, dots = false, 0, 0
		case c == ';':
			parameters = true
		case !parameters:
			length++
			if c == '.' {
				dots++
			}
		}
		switch {
		case ended, parameters, !whole, c == '/' && len(buf) > 0 && buf[len(buf)-1] == '/':
		case len(buf) == cap(buf):
			whole = false
		default:
			buf = folded(append(buf, lowered(c)))
		}
	}
	if isDots(length, dots) {
		return buf, false, false
	}
	if len(buf) > 0 && buf[len(buf)-1] == '/' {
		buf = buf[:len(buf)-1]
	}
	return buf, whole, true
}

// asciiButForCase are the letters that differ from ASCII ones only in case (Unicode
// CaseFolding and SpecialCasing). To a server that ignores case by Unicode's rules,
// /adm%C4%B0n is /admin.
var asciiButForCase = [...]struct {
	other, ascii string
}{
	{"\u0130", "i"},
	{"\u0131", "i"},
	{"\u017f", "s"},
	{"\u212a", "k"},
	{"\u00df", "ss"},
	{"\u1e9e", "ss"},
	{"\ufb00", "ff"},
	{"\ufb01", "fi"},
	{"\ufb02", "fl"},
	{"\ufb03", "ffi"},
	{"\ufb04", "ffl"},
	{"\ufb05", "st"},
	{"\ufb06", "st"},
}

// folded is buf with its last letter replaced by the ASCII ones that differ from it only in
// case. It is never longer than buf.
func folded(buf []byte) []byte {
	if buf[len(buf)-1] < 0x80 {
		return buf
	}
	for _, letter := range asciiButForCase {
		if rest := len(buf) - len(letter.other); rest >= 0 && string(buf[rest:]) == letter.other {
			return append(buf[:rest], letter.ascii...)
		}
	}
	return buf
}

// isDots says whether a segment is . or .. by its length and its count of dots.
func isDots(length, dots int) bool { return length == dots && (length == 1 || length == 2) }

// decoded is the first character of s, as a server that decodes twice reads it, and how
// many bytes stand for it: %61 is a, and so are %2561 and %25%36%31. The number of bytes is
// 0 where an escape is broken, or where a server that decodes once more would read
// something else.
func decoded(s string) (c byte, n int) {
	c, n = unescaped(s)
	if c != '%' || n == 0 {
		return c, n
	}
	high, nh := unescaped(s[n:])
	low, nl := byte(0), 0
	if isHex(high) {
		low, nl = unescaped(s[n+nh:])
	}
	switch {
	case high == '%', low == '%':
		return 0, 0
	case nh == 0 || nl == 0 || !isHex(low):
		return c, n // the percent sign itself
	}
	c = unhex(high)<<4 | unhex(low)
	if c == '%' {
		return 0, 0
	}
	return c, n + nh + nl
}

// unescaped is the first character of s, which may be escaped, and how many bytes
// stand for it: 0 where s is empty or the escape is broken.
func unescaped(s string) (c byte, n int) {
	switch {
	case s == "":
		return 0, 0
	case s[0] != '%':
		return s[0], 1
	case len(s) < 3 || !isHex(s[1]) || !isHex(s[2]):
		return 0, 0
	default:
		return unhex(s[1])<<4 | unhex(s[2]), 3
	}
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || lowered(c) >= 'a' && lowered(c) <= 'f' }

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return lowered(c) - 'a' + 10
}

func lowered(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
