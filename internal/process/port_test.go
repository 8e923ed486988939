package process

import (
	"net"
	"strconv"
	"sync"
	"testing"
)

func TestPortIsGivenOnce(t *testing.T) {
	var all sync.WaitGroup
	var mu sync.Mutex
	seen := map[int]bool{}
	for range 8 {
		all.Go(func() {
			for range 200 {
				port, err := Port()
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[port] {
					t.Errorf("%d was given twice", port)
				}
				seen[port] = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
}

func TestPortIsFree(t *testing.T) {
	port, err := Port()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}
