package host

import (
	"runtime"
	"unicode/utf8"
	"unsafe"

	"ron/internal/abi"
)

// The contract's imports as the canonical ABI flattens them. A string parameter is a
// pointer and a length there too; result points at where the host writes.

//go:wasmimport ron:kernel/bus@1.0.0 publish
func busPublish(topic, payload string, result *abi.Area)

//go:wasmimport ron:kernel/bus@1.0.0 request
func busRequest(topic, payload string, timeoutMS uint32, result *abi.Area)

//go:wasmimport ron:kernel/bus@1.0.0 subscribe
func busSubscribe(filter string, result *abi.Area)

//go:wasmimport ron:kernel/bus@1.0.0 unsubscribe
func busUnsubscribe(filter string, result *abi.Area)

//go:wasmimport ron:kernel/config@1.0.0 get
func configGet(key string, result *abi.Area)

//go:wasmimport ron:kernel/config@1.0.0 entries
func configEntries(result *abi.Area)

//go:wasmimport ron:kernel/config@1.0.0 version
func configVersion() uint64

//go:wasmimport ron:kernel/health@1.0.0 report
func healthReport(status, some uint32, detail string)

//go:wasmimport ron:kernel/identity@1.0.0 get
func identityGet(result *abi.Area)

//go:wasmimport ron:kernel/log@1.0.0 write
func logWrite(level uint32, message string, fields unsafe.Pointer, count uint32)

//go:wasmimport ron:kernel/metrics@1.0.0 add
func metricsAdd(name string, labels unsafe.Pointer, count uint32, delta uint64)

//go:wasmimport ron:kernel/metrics@1.0.0 set
func metricsSet(name string, labels unsafe.Pointer, count uint32, value float64)

//go:wasmimport ron:kernel/metrics@1.0.0 observe
func metricsObserve(name string, labels unsafe.Pointer, count uint32, value float64)

//go:wasmimport ron:kernel/timer@1.0.0 after
func timerAfter(name string, delayMS uint64, result *abi.Area)

//go:wasmimport ron:kernel/timer@1.0.0 every
func timerEvery(name string, periodMS uint64, result *abi.Area)

//go:wasmimport ron:kernel/timer@1.0.0 cancel
func timerCancel(name string)

func init() { Use(imports{}) }

type imports struct{}

func (imports) Publish(topic string, payload []byte) (uint32, *Refusal) {
	result, done := abi.Result()
	defer done()
	busPublish(abi.Text(topic), view(payload), result)
	return result.U32(8), refusal(result)
}

func (imports) Request(topic string, payload []byte, timeoutMS uint32) ([]byte, *Refusal) {
	result, done := abi.Result()
	defer done()
	busRequest(abi.Text(topic), view(payload), timeoutMS, result)
	if r := refusal(result); r != nil {
		return nil, r
	}
	return result.Bytes(8), nil
}

func (imports) Subscribe(filter string) *Refusal {
	result, done := abi.Result()
	defer done()
	busSubscribe(abi.Text(filter), result)
	return refusal(result)
}

func (imports) Unsubscribe(filter string) *Refusal {
	result, done := abi.Result()
	defer done()
	busUnsubscribe(abi.Text(filter), result)
	return refusal(result)
}

func (imports) Get(key string) (string, bool) {
	result, done := abi.Result()
	defer done()
	configGet(abi.Text(key), result)
	if result.U8(0) == 0 {
		return "", false
	}
	return result.String(4), true
}

func (imports) Entries() []Pair {
	result, done := abi.Result()
	defer done()
	configEntries(result)
	entries := make([]Pair, result.U32(4))
	for i := range entries {
		entry := abi.At(result.U32(0) + uint32(i)*16)
		entries[i] = Pair{entry.String(0), entry.String(8)}
	}
	return entries
}

func (imports) Version() uint64 { return configVersion() }

func (imports) Report(status uint32, detail string) {
	some := uint32(0)
	if detail != "" {
		some = 1
	}
	healthReport(status, some, abi.Text(detail))
}

func (imports) Identity() (string, uint64, uint32) {
	result, done := abi.Result()
	defer done()
	identityGet(result)
	return result.String(0), result.U64(8), result.U32(16)
}

func (imports) Log(level uint32, message string, fields []Pair) {
	list := flatten(fields)
	logWrite(level, abi.Text(message), unsafe.Pointer(unsafe.SliceData(list)), uint32(len(fields)))
	runtime.KeepAlive(fields)
}

func (imports) Add(name string, labels []Pair, delta uint64) {
	list := flatten(labels)
	metricsAdd(abi.Text(name), unsafe.Pointer(unsafe.SliceData(list)), uint32(len(labels)), delta)
	runtime.KeepAlive(labels)
}

func (imports) Set(name string, labels []Pair, value float64) {
	list := flatten(labels)
	metricsSet(abi.Text(name), unsafe.Pointer(unsafe.SliceData(list)), uint32(len(labels)), value)
	runtime.KeepAlive(labels)
}

func (imports) Observe(name string, labels []Pair, value float64) {
	list := flatten(labels)
	metricsObserve(abi.Text(name), unsafe.Pointer(unsafe.SliceData(list)), uint32(len(labels)), value)
	runtime.KeepAlive(labels)
}

func (imports) After(name string, delayMS uint64) *Refusal {
	result, done := abi.Result()
	defer done()
	timerAfter(abi.Text(name), delayMS, result)
	return refusal(result)
}

func (imports) Every(name string, periodMS uint64) *Refusal {
	result, done := abi.Result()
	defer done()
	timerEvery(abi.Text(name), periodMS, result)
	return refusal(result)
}

func (imports) Cancel(name string) { timerCancel(abi.Text(name)) }

// kinds are the cases of types.bus-error, in the contract's order.
var kinds = [...]string{
	"denied", "invalid-topic", "payload-too-large", "overloaded",
	"timeout", "no-responder", "failed", "other",
}

func refusal(result *abi.Area) *Refusal {
	if result.U8(0) == 0 {
		return nil
	}
	r := &Refusal{Kind: kinds[result.U8(8)]}
	switch r.Kind {
	case "payload-too-large":
		r.Limit = result.U64(16)
	case "denied", "invalid-topic", "failed", "other":
		r.Text = result.String(16)
	}
	return r
}

// view is the bytes as a parameter, without a copy.
func view(bytes []byte) string { return unsafe.String(unsafe.SliceData(bytes), len(bytes)) }

// flatten is a list<tuple<string, string>>. The pairs keep their texts alive, which the
// numbers in the list do not; those that are not valid are replaced there.
func flatten(pairs []Pair) [][4]uint32 {
	if len(pairs) == 0 {
		return nil
	}
	list := make([][4]uint32, len(pairs))
	for i := range pairs {
		if p := pairs[i]; !utf8.ValidString(p.Name) || !utf8.ValidString(p.Value) {
			pairs[i] = Pair{abi.Text(p.Name), abi.Text(p.Value)}
		}
		p := &pairs[i]
		list[i] = [4]uint32{abi.Address(p.Name), uint32(len(p.Name)), abi.Address(p.Value), uint32(len(p.Value))}
	}
	return list
}
