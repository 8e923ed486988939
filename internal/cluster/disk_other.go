//go:build !linux

package cluster

import "errors"

// SmallDisk is for Linux alone.
func SmallDisk(int64) (dir string, remove func(), err error) {
	return "", nil, errors.New("mounting a small disk: only Linux lets a user mount")
}
