package settings

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// tooLong is a file that is longer than an operator who names it can mean.
type tooLong struct {
	file string
	most int // bytes
}

func (e *tooLong) Error() string {
	return fmt.Sprintf("%q is longer than %s", e.file, FormatSize(e.most))
}

// ReadFile reads a file that the operator names, of at most so many bytes: a wrong path (a
// device, a log) is a fault, and no endless read.
func ReadFile(file string, most int) ([]byte, error) {
	f, err := os.Open(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(content) > most {
		return nil, &tooLong{file, most}
	}
	return content, nil
}

// Reason drops the path from err where a fault names it already.
func Reason(err error) error {
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		return pathErr.Err
	}
	if long := (*tooLong)(nil); errors.As(err, &long) {
		return errors.New("a longer file")
	}
	return err
}
