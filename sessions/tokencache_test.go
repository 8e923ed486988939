package sessions

import (
	"hash/maphash"
	"testing"
	"unsafe"
)

func TestTokenCache(t *testing.T) {
	t.Parallel()
	c, err := newTokenCache(10)
	if err != nil {
		t.Fatal(err)
	}
	key := offline(t).keys.Load().signers[0]
	token := func() *verified { return &verified{Access: Access{key: key}} }
	first := token()
	request := []byte("first")
	if kept := c.keep(unsafe.String(&request[0], len(request)), first); kept != first {
		t.Error("another token is kept")
	}
	copy(request, "other") // gRPC reads the next request into the same bytes
	if c.get("first") != first || c.get("other") != nil {
		t.Error("the name is a part of the request")
	}
	if c.keep("first", token()) != first {
		t.Error("a token that is in the cache was replaced")
	}

	// Another token with the same hash is never found in its place.
	c.entries.Set(maphash.String(c.seed, "second"), first)
	second := token()
	if c.get("second") != nil || c.keep("second", second) != second || c.get("second") != nil {
		t.Error("a token is found by its hash alone")
	}

	key.deleted.Store(true)
	if c.get("first") != nil {
		t.Error("a deleted key's token is still in the cache")
	}
}
