// Package host is a service's way out: what the contract lets it ask of its host.
package host

// Host is the host that runs this service, or what a test has in its place. Texts
// need not be valid UTF-8.
type Host interface {
	Publish(topic string, payload []byte) (uint32, *Refusal)
	Request(topic string, payload []byte, timeoutMS uint32) ([]byte, *Refusal)
	Subscribe(filter string) *Refusal
	Unsubscribe(filter string) *Refusal

	Get(key string) (string, bool)
	Entries() []Pair
	Version() uint64

	Report(status uint32, detail string)
	Identity() (service string, generation uint64, replica uint32)
	Log(level uint32, message string, fields []Pair)

	Add(name string, labels []Pair, delta uint64)
	Set(name string, labels []Pair, value float64)
	Observe(name string, labels []Pair, value float64)

	After(name string, delayMS uint64) *Refusal
	Every(name string, periodMS uint64) *Refusal
	Cancel(name string)
}

// Pair is a name and its value.
type Pair struct{ Name, Value string }

// Levels of [Host.Log], in the contract's order.
const (
	Trace uint32 = iota
	Debug
	Info
	Warn
	Error
)

// Refusal is why the bus refused a call. Kind is the contract's name for it.
type Refusal struct {
	Kind  string
	Text  string
	Limit uint64
}

var current Host

// Use says who the host is; nil when there is none.
func Use(h Host) { current = h }

// Current is the host. It panics where there is none.
func Current() Host {
	if current == nil {
		panic("ron: there is no host here; in a test, rontest.Start is one")
	}
	return current
}

// Present is whether there is a host.
func Present() bool { return current != nil }
