package crash

import (
	"bytes"
	"unicode/utf8"
	"unsafe"

	"ron/internal/abi"
	"ron/internal/host"
)

// overrideWrite is the runtime's own hook on what it prints: reports of what is fatal,
// and println.
//
//go:linkname overrideWrite runtime.overrideWrite
var overrideWrite func(fd uintptr, p unsafe.Pointer, n int32) int32

//go:wasmimport ron:kernel/log@1.0.0 write
//go:noescape
func logWrite(level uint32, message string, fields unsafe.Pointer, count uint32)

//go:wasmimport wasi_snapshot_preview1 fd_write
//go:noescape
func fdWrite(fd int32, vectors unsafe.Pointer, count uint32, written *uint32) uint32

// All of this is static, as nothing may be allocated while the runtime dies.
var fatal struct {
	state   state
	line    text
	message text
	report  report
	vector  [2]uint32
	written uint32
	fields  [3][4]uint32
}

type text struct {
	bytes  [4 << 10]byte // what is past its end is dropped
	length int
}

func (t *text) add(bytes []byte) { t.length += copy(t.bytes[t.length:], bytes) }
func (t *text) all() []byte      { return t.bytes[:t.length] }

func (t *text) addByte(b byte) {
	if t.length < len(t.bytes) {
		t.bytes[t.length] = b
		t.length++
	}
}

type state int

const (
	listening state = iota
	dying           // the message goes on until an empty line
	waiting         // for the trace of the goroutine that did it
	tracing
)

// write takes what the runtime prints, in pieces of any size.
func write(fd uintptr, p unsafe.Pointer, n int32) int32 {
	for _, b := range unsafe.Slice((*byte)(p), n) {
		if fatal.line.addByte(b); b == '\n' {
			endLine(fatal.line.all())
			fatal.line.length = 0
		}
	}
	return n
}

func endLine(whole []byte) {
	line := bytes.TrimSuffix(whole, []byte("\n"))
	switch fatal.state {
	case listening:
		text, ok := bytes.CutPrefix(line, []byte("fatal error: "))
		if !ok {
			text, ok = bytes.CutPrefix(line, []byte("panic: "))
		}
		if !ok {
			fatal.vector = [2]uint32{abi.AddressOf(whole), uint32(len(whole))}
			fdWrite(2, unsafe.Pointer(&fatal.vector), 1, &fatal.written)
			return
		}
		fatal.message.add(text)
		fatal.state = dying
		if bytes.HasPrefix(text, []byte("no goroutines")) {
			end() // there is nothing to trace
		}
	case dying:
		if len(line) == 0 {
			fatal.state = waiting
			return
		}
		fatal.message.addByte('\n')
		fatal.message.add(line)
	case waiting:
		if bytes.HasPrefix(line, []byte("goroutine ")) {
			fatal.report.add(line)
			fatal.state = tracing
		}
	case tracing:
		if len(line) == 0 || fatal.report.add(line) {
			end()
		}
	}
}

func end() {
	message := fatal.message.all()
	what := "true"
	if bytes.Contains(message, []byte("out of memory")) || bytes.Contains(message, []byte("cannot allocate memory")) {
		what = "out-of-memory"
	}
	if !utf8.Valid(message) {
		for i, b := range message {
			if b >= utf8.RuneSelf {
				message[i] = '?'
			}
		}
	}
	fatal.fields[0] = pair("ron.panic", what)
	count := uint32(1)
	if trace := fatal.report.trace(); trace != "" {
		fatal.fields[count] = pair("traceback", trace)
		count++
	}
	if place := fatal.report.place(); place != "" {
		fatal.fields[count] = pair("location", place)
		count++
	}
	logWrite(host.Error, unsafe.String(unsafe.SliceData(message), len(message)), unsafe.Pointer(&fatal.fields), count)
	abi.Trap()
}

func pair(name, value string) [4]uint32 {
	return [4]uint32{abi.Address(name), uint32(len(name)), abi.Address(value), uint32(len(value))}
}
