package abi

import (
	"strings"
	"structs"
	"unicode/utf8"
	"unsafe"
)

// Area is where the host writes the result of a call, or a place in what it handed
// over. Offsets are those of the canonical ABI, in bytes.
type Area struct {
	_     structs.HostLayout
	words [3]uint64 // as large as the largest result, and aligned for all
}

func (a *Area) at(offset uintptr) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(a), offset) }

func (a *Area) U8(offset uintptr) uint8   { return *(*uint8)(a.at(offset)) }
func (a *Area) U32(offset uintptr) uint32 { return *(*uint32)(a.at(offset)) }
func (a *Area) U64(offset uintptr) uint64 { return *(*uint64)(a.at(offset)) }

// String copies the string at offset.
func (a *Area) String(offset uintptr) string { return String(a.U32(offset), a.U32(offset+4)) }

// Bytes copies the list<u8> at offset.
func (a *Area) Bytes(offset uintptr) []byte { return Bytes(a.U32(offset), a.U32(offset+4)) }

// At is the area at an address.
func At(address uint32) *Area { return (*Area)(pointer(address)) }

// String copies a string that the host handed over.
func String(address, length uint32) string {
	return string(unsafe.Slice((*byte)(pointer(address)), length))
}

// Bytes copies bytes that the host handed over.
func Bytes(address, length uint32) []byte {
	return append(make([]byte, 0, length), unsafe.Slice((*byte)(pointer(address)), length)...)
}

// Address is where the text lies. Whoever uses it keeps the text alive.
func Address(text string) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.StringData(text)))) }

// AddressOf is where the list lies. Whoever uses it keeps the list alive.
func AddressOf[T any](list []T) uint32 {
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(list))))
}

func pointer(address uint32) unsafe.Pointer { return unsafe.Add(nil, uintptr(address)) }

// arena is memory for what the host hands over, which is copied from there at once.
// Each block is at least twice as large as the one before, so few are ever needed, and
// they are kept: the runtime takes no memory back.
type arena struct {
	blocks [16]block
}

type block struct{ start, used, size uintptr }

// alloc returns memory outside Go's heap. It runs in the middle of calls of the host,
// and before the runtime is up: it must neither allocate nor grow the stack.
//
//go:nosplit
func (a *arena) alloc(old, oldSize, align, size uint32) uint32 {
	next := uintptr(1 << 16)
	for i := range a.blocks {
		b := &a.blocks[i]
		if b.size == 0 {
			b.size = max(next, (uintptr(size)+1<<16-1)&^(1<<16-1))
			b.start = uintptr(sbrk(b.size))
			if b.start == 0 {
				Trap()
			}
		}
		used := (b.used + uintptr(align) - 1) &^ (uintptr(align) - 1)
		if used+uintptr(size) <= b.size {
			b.used = used + uintptr(size)
			address := uint32(b.start + used)
			for i := range min(oldSize, size) {
				*(*byte)(unsafe.Add(nil, uintptr(address+i))) = *(*byte)(unsafe.Add(nil, uintptr(old+i)))
			}
			return address
		}
		next = 2 * b.size
	}
	Trap()
	return 0
}

func (a *arena) reset() {
	for i := range a.blocks {
		a.blocks[i].used = 0
	}
}

var (
	params, results, adapter arena

	// underway is how many calls of the host wait for their results to be copied:
	// more than one when a goroutine lost its turn in the middle of that.
	underway int
)

// Result is where one call of the host puts its result; done gives back what that
// points to, once it is copied.
func Result() (result *Area, done func()) {
	underway++
	return new(Area), release
}

func release() {
	if underway--; underway == 0 {
		results.reset()
	}
}

// Copied gives back the parameters of an export.
func Copied() { params.reset() }

//go:wasmexport cabi_export_realloc
//go:nosplit
func exportRealloc(old, oldSize, align, size uint32) uint32 {
	return params.alloc(old, oldSize, align, size)
}

//go:wasmexport cabi_import_realloc
//go:nosplit
func importRealloc(old, oldSize, align, size uint32) uint32 {
	return results.alloc(old, oldSize, align, size)
}

// The adapter of WASI preview 1 keeps what it asks for.
//
//go:wasmexport cabi_realloc_adapter
//go:nosplit
func adapterRealloc(old, oldSize, align, size uint32) uint32 {
	return adapter.alloc(old, oldSize, align, size)
}

// sbrk is the runtime's own way to more memory. Memory that grows past it would be
// taken for the heap's.
//
//go:linkname sbrk runtime.sbrk
func sbrk(n uintptr) unsafe.Pointer

// Trap ends the instance at once.
func Trap()

// returned is what the host reads when an export has returned. It is global, so that
// neither the collector nor a growing stack takes it away before.
var returned struct {
	words [4]uint32
	keep  any
}

// Return says what an export returns, as the words that the canonical ABI has for it.
// What these point to lives on in keep until the next call.
func Return(keep any, words ...uint32) uint32 {
	returned.keep = keep
	copy(returned.words[:], words)
	return uint32(uintptr(unsafe.Pointer(&returned.words)))
}

// ReturnError returns a result<_, string>.
func ReturnError(err error) uint32 {
	if err == nil {
		return Return(nil, 0)
	}
	text := Text(err.Error())
	return Return(text, 1, Address(text), uint32(len(text)))
}

// Text is s as the contract's strings are: a host ends an instance whose text is not
// valid UTF-8.
func Text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
