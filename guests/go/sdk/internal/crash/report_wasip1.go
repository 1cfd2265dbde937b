package crash

import (
	"bytes"
	"unsafe"
)

// report is a goroutine's trace as the runtime prints it, without what the author knows
// nothing of, and the author's innermost line in it. It allocates nothing: it is used
// when there is no more memory too.
type report struct {
	text   [16 << 10]byte // what is past its end is dropped
	length int
	header int // how much of it is the first line

	at       [256]byte // the author's line, once it is found
	atLength int

	mine, ours, last bool // of the frame whose place comes next
}

// add takes the next line. It says true when that was the last one.
func (r *report) add(line []byte) bool {
	if !bytes.HasPrefix(line, []byte("\t")) {
		r.last = bytes.HasPrefix(line, []byte("created by ")) || bytes.HasPrefix(line, []byte("ron:kernel/")) ||
			!started && (bytes.Contains(line, []byte(".init(")) || bytes.Contains(line, []byte(".init.")))
		r.mine = bytes.HasPrefix(line, []byte("main.")) || home != "" && bytes.HasPrefix(line, view(home))
		r.ours = bytes.HasPrefix(line, []byte("ron.export")) || bytes.HasPrefix(line, []byte("ron:kernel/")) ||
			bytes.HasPrefix(line, []byte("ron/")) && bytes.Contains(line, []byte(".export"))
		if !r.ours {
			r.append(line)
		}
		if r.header == 0 {
			r.header = r.length
		}
		return false
	}
	// "	greeter/main.go:12 +0x1f fp=0x... sp=0x... pc=0x..."
	if fp := bytes.Index(line, []byte(" fp=")); fp >= 0 {
		line = line[:fp]
	}
	if !r.ours {
		r.append(line)
	}
	if r.mine && r.atLength == 0 {
		place := bytes.TrimPrefix(line[1:], view(home))
		if end := bytes.LastIndexByte(place, ' '); end >= 0 {
			place = place[:end]
		}
		r.atLength = copy(r.at[:], place)
	}
	return r.last
}

func (r *report) append(line []byte) {
	if r.length+len(line)+1 > len(r.text) {
		return
	}
	if r.length > 0 {
		r.text[r.length] = '\n'
		r.length++
	}
	r.length += copy(r.text[r.length:], line)
}

// restart forgets all but the header; the place of the last frame is still to come.
func (r *report) restart() {
	r.length, r.atLength = r.header, 0
	r.mine, r.ours = false, true
}

func (r *report) trace() string { return unsafe.String(&r.text[0], r.length) }
func (r *report) place() string { return unsafe.String(&r.at[0], r.atLength) }

func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
