package main

import (
	"errors"
	"os"
)

// syncDir makes a new name survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the folder of a file that the caller of the command names
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
