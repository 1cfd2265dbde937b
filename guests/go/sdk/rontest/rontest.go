// Package rontest stands in for the host in an ordinary test, without Wasm.
//
//	func TestGreets(t *testing.T) {
//		host := rontest.Start(t, &Greeter{})
//		reply, err := host.Send("greeter.hello", "Ada")
//		if err != nil || reply.String() != "Hello, Ada!" {
//			t.Errorf("got %v, %v", reply, err)
//		}
//	}
//
// What is to be there before the service starts goes through [New]:
//
//	host := rontest.New(t)
//	host.SetConfig("greeting", "Ahoj")
//	host.Start(&Greeter{})
//
// A panic of the service fails the test as any other does.
package rontest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ron"
	"ron/bus"
	"ron/health"
	"ron/internal/host"
	"ron/internal/service"
)

// Host is the host of one service for as long as a test runs. Its fields are what the
// service did; the test may change them.
type Host struct {
	// Published is what the service published or requested, in order. It is not
	// delivered to the service itself.
	Published []Published
	// Subscriptions are the filters that the service subscribes to.
	Subscriptions []string
	// Timers are the timers that are set, by name.
	Timers map[string]Timer
	// Metrics are what was added, set or observed last, by name and labels:
	// orders_total or orders_total{region="eu"}. A counter is the sum.
	Metrics map[string]float64
	// Health and HealthDetail are what the service last said of itself.
	Health       health.Status
	HealthDetail string

	t       testing.TB
	service ron.Service
	config  map[string]string
	version uint64
	last    uint64
	stubs   []stub
}

// Timer is a timer that the service set.
type Timer struct {
	// Period is the delay of one that fires once.
	Period time.Duration
	Once   bool
}

// Published is a message that the service published.
type Published struct {
	Topic   string
	Payload string
}

type stub struct {
	filter string
	reply  func(topic string, payload []byte) ([]byte, error)
}

// New makes a host. It is there until the test ends, and no other can be meanwhile:
// such tests do not run in parallel.
func New(t testing.TB) *Host {
	t.Helper()
	if host.Present() {
		t.Fatal("rontest: there is a host already: one at a time, and no t.Parallel")
	}
	h := &Host{
		Timers:  map[string]Timer{},
		Metrics: map[string]float64{},
		t:       t,
		config:  map[string]string{},
		version: 1,
	}
	host.Use(fake{h})
	t.Cleanup(func() { host.Use(nil) })
	return h
}

// Start makes a host and starts the service in it.
func Start(t testing.TB, s ron.Service) *Host {
	t.Helper()
	h := New(t)
	h.Start(s)
	return h
}

// Start starts the service, and fails the test where it does not start.
func (h *Host) Start(s ron.Service) {
	h.t.Helper()
	if err := h.TryStart(s); err != nil {
		h.t.Fatalf("rontest: Start: %v", err)
	}
}

// TryStart starts the service, and returns what its Start returns.
func (h *Host) TryStart(s ron.Service) error {
	h.t.Helper()
	if err := service.Check(s); err != nil {
		h.t.Fatalf("rontest: %v", err)
	}
	h.service = s
	return s.Start()
}

// SetConfig sets a value of the service's configuration: a string as it stands, any
// other value as its JSON text. Tell a running service by [Host.Event].
func (h *Host) SetConfig(key, value string) {
	h.config[key] = value
	h.version++
}

// Reply has requests of the service to matching topics answered. Without one a request
// fails with bus.NoResponder.
//
//	host.Reply("stock.get", func(topic string, payload []byte) ([]byte, error) {
//		return nil, bus.Timeout
//	})
//
// An error of the bus, or its kind, comes back as it is; another as bus.Failed.
func (h *Host) Reply(filter string, reply func(topic string, payload []byte) ([]byte, error)) {
	h.stubs = append(h.stubs, stub{filter, reply})
}

// Send delivers a message, and returns what the service makes of it. It fails the test
// where the service does not subscribe to the topic.
func (h *Host) Send(topic, payload string) (ron.Reply, error) {
	h.t.Helper()
	return h.Deliver(ron.Message{Topic: topic, Payload: []byte(payload)})
}

// Deliver is [Host.Send] of a message whose other fields matter. Those that are zero
// get what a first delivery has.
func (h *Host) Deliver(m ron.Message) (ron.Reply, error) {
	h.t.Helper()
	h.mustRun()
	if err := checkTopic(m.Topic, false); err != nil {
		h.t.Fatalf("rontest: %q is no topic: %s", m.Topic, err.Text)
	}
	if m.Timer() == "" && !slices.ContainsFunc(h.Subscriptions, func(f string) bool { return matches(f, m.Topic) }) {
		h.t.Fatalf("rontest: the service does not subscribe to %q, only to %q", m.Topic, h.Subscriptions)
	}
	if m.ID == 0 {
		h.last++
		m.ID = h.last
	}
	if m.Source == "" {
		m.Source = "test"
	}
	m.Attempt = max(m.Attempt, 1)
	return h.service.OnMessage(m)
}

// Fire lets a timer fire now. It fails the test where the service set no such timer.
func (h *Host) Fire(name string) (ron.Reply, error) {
	h.t.Helper()
	timer, ok := h.Timers[name]
	if !ok {
		h.t.Fatalf("rontest: no timer %q is set", name)
	}
	if timer.Once {
		delete(h.Timers, name)
	}
	return h.Deliver(ron.Message{Topic: "ron.timer." + name})
}

// Event announces something to the service.
func (h *Host) Event(event ron.Event) {
	h.t.Helper()
	h.mustRun()
	if handler, ok := h.service.(ron.EventHandler); ok {
		handler.OnEvent(event)
	}
}

// Swap replaces the service as a hot swap does: next starts, takes over the state and
// has all that comes later. What the old one subscribed to and its timers are gone.
func (h *Host) Swap(next ron.Service) error {
	h.t.Helper()
	h.mustRun()
	old := h.service
	h.Subscriptions, h.Timers = nil, map[string]Timer{}
	if err := h.TryStart(next); err != nil {
		return err
	}
	from, saves := old.(ron.Handover)
	to, restores := next.(ron.Handover)
	if !saves || !restores {
		return nil
	}
	state, err := from.Save()
	if err != nil {
		return err
	}
	return to.Restore(state)
}

// Stop ends the service.
func (h *Host) Stop() {
	h.t.Helper()
	h.mustRun()
	if stopper, ok := h.service.(ron.Stopper); ok {
		stopper.Stop()
	}
}

func (h *Host) mustRun() {
	h.t.Helper()
	if h.service == nil {
		h.t.Fatal("rontest: no service was started")
	}
}

// String names what the service did; for a test's messages.
func (p Published) String() string { return fmt.Sprintf("%s: %s", p.Topic, p.Payload) }

// matches is whether a filter takes a topic in.
func matches(filter, topic string) bool {
	for filter != "" && topic != "" {
		want, restOfFilter, _ := strings.Cut(filter, ".")
		token, restOfTopic, _ := strings.Cut(topic, ".")
		if want == ">" {
			return true
		}
		if want != "*" && want != token {
			return false
		}
		filter, topic = restOfFilter, restOfTopic
	}
	return filter == topic
}

// checkTopic holds a topic or filter to the rules of the bus.
func checkTopic(text string, filter bool) *host.Refusal {
	tokens := strings.Split(text, ".")
	if len(tokens) > 16 || len(text) > 255 {
		return &host.Refusal{Kind: string(bus.InvalidTopic), Text: "at most 16 tokens and 255 bytes"}
	}
	for i, token := range tokens {
		bad := strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
		switch {
		case filter && (token == "*" || token == ">" && i == len(tokens)-1):
		case token == "":
			return &host.Refusal{Kind: string(bus.InvalidTopic), Text: fmt.Sprintf("token %d is empty", i+1)}
		case bad != "":
			return &host.Refusal{Kind: string(bus.InvalidTopic), Text: fmt.Sprintf("token %d has %q", i+1, bad)}
		}
	}
	return nil
}
