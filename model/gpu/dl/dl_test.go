package dl

import (
	"strings"
	"testing"
	"unsafe"
)

// A function is found by name and called; what is missing is named.
func TestFind(t *testing.T) {
	lib, err := Open("libc.so.6")
	if err != nil {
		t.Skip(err)
	}
	f, err := Find(lib, "strtol")
	if err != nil {
		t.Fatal(err)
	}
	text, end := []byte("-1234 and more\x00"), uintptr(0)
	if v := int64(f.Call(uintptr(unsafe.Pointer(&text[0])), uintptr(unsafe.Pointer(&end)), 10)); v != -1234 || end != uintptr(unsafe.Pointer(&text[5])) {
		t.Errorf("%d, end %x", v, end)
	}
	if f, err := Find(lib, "sn3NoSuchFunction"); err == nil || !strings.Contains(err.Error(), "find sn3NoSuchFunction") || f.Addr != 0 || f.Name != "sn3NoSuchFunction" {
		t.Errorf("%v %v", f, err)
	}
	if _, err := Open("/nowhere/libnone.so"); err == nil {
		t.Error("a library that is not there was opened")
	}
}

// A text ends at its zero, or where it is too long to be one.
func TestText(t *testing.T) {
	long := []byte(strings.Repeat("x", 5000) + "\x00")
	for _, c := range []struct {
		b    []byte
		want int
	}{{[]byte("abc\x00def\x00"), 3}, {[]byte{0}, 0}, {long, 4096}} {
		if got := Text(&c.b[0]); got != string(c.b[:c.want]) {
			t.Errorf("%d bytes, not %d", len(got), c.want)
		}
	}
}
