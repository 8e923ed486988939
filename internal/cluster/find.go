package cluster

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// ErrNotInstalled is returned by [Start] where this machine has no Postgres server.
var ErrNotInstalled = errors.New(
	"no Postgres server is installed: apt-get install postgresql (dnf install postgresql-server, brew install postgresql)")

// distributionFolders are where packages put the server's own programs. They come
// before PATH, where there may be another version's or a distribution's wrapper
// (which may change the user, or the process that we would watch).
var distributionFolders = []string{
	"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                                   // PostgreSQL's own packages for Red Hat
	"/usr/lib/postgresql[0-9]*/bin",                      // SUSE
	"/usr/libexec/postgresql[0-9]*",                      // Alpine
	"/opt/homebrew/opt/postgresql@*/bin",                 // Homebrew, Apple silicon
	"/usr/local/opt/postgresql@*/bin",                    // Homebrew, Intel
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",    // Homebrew, Linux
	"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
}

// find returns the newest folder among the patterns that has both programs, else
// the one in PATH.
func find(patterns []string) (string, error) {
	var found []string
	for _, pattern := range patterns {
		dirs, _ := filepath.Glob(pattern) // fails on a malformed pattern only
		found = append(found, slices.DeleteFunc(dirs, func(dir string) bool { return !complete(dir) })...)
	}
	if len(found) > 0 {
		return slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) }), nil
	}
	// Red Hat's own packages install into /usr/bin; a link is followed because
	// Postgres looks for its other files beside the program.
	if initdb, err := exec.LookPath("initdb"); err == nil {
		if initdb, err = filepath.EvalSymlinks(initdb); err == nil && complete(filepath.Dir(initdb)) {
			return filepath.Dir(initdb), nil
		}
	}
	return "", ErrNotInstalled
}

// complete reports whether a folder has a server and what creates its data.
func complete(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

var number = regexp.MustCompile(`\d+(\.\d+)?`)

// version is the last number in a folder's path, 0 if there is none.
func version(dir string) float64 {
	numbers := number.FindAllString(dir, -1)
	if len(numbers) == 0 {
		return 0
	}
	v, _ := strconv.ParseFloat(numbers[len(numbers)-1], 64)
	return v
}
