package rontest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ron/bus"
	"ron/health"
	"ron/internal/host"
)

// fake is what the SDK takes for the host. It is a type of its own so that a test does
// not see these methods.
type fake struct{ *Host }

func (h fake) Publish(topic string, payload []byte) (uint32, *host.Refusal) {
	if refusal := h.publish(topic, payload); refusal != nil {
		return 0, refusal
	}
	return 1, nil
}

func (h fake) publish(topic string, payload []byte) *host.Refusal {
	if refusal := checkTopic(topic, false); refusal != nil {
		return refusal
	}
	if strings.HasPrefix(topic, "ron.") {
		return &host.Refusal{Kind: string(bus.Denied), Text: topic + ": topics that begin with 'ron.' are the host's"}
	}
	h.Host.Published = append(h.Host.Published, Published{topic, string(payload)})
	return nil
}

func (h fake) Request(topic string, payload []byte, _ uint32) ([]byte, *host.Refusal) {
	if refusal := h.publish(topic, payload); refusal != nil {
		return nil, refusal
	}
	for _, stub := range h.stubs {
		if !matches(stub.filter, topic) {
			continue
		}
		reply, err := stub.reply(topic, payload)
		if err == nil {
			return reply, nil
		}
		if e, ok := errors.AsType[*bus.Error](err); ok {
			return nil, &host.Refusal{Kind: string(e.Kind), Text: e.Text, Limit: e.Limit}
		}
		if kind, ok := errors.AsType[bus.Kind](err); ok {
			return nil, &host.Refusal{Kind: string(kind)}
		}
		return nil, &host.Refusal{Kind: string(bus.Failed), Text: err.Error()}
	}
	return nil, &host.Refusal{Kind: string(bus.NoResponder)}
}

func (h fake) Subscribe(filter string) *host.Refusal {
	if refusal := checkTopic(filter, true); refusal != nil {
		return refusal
	}
	if !slices.Contains(h.Subscriptions, filter) {
		h.Subscriptions = append(h.Subscriptions, filter)
	}
	return nil
}

func (h fake) Unsubscribe(filter string) *host.Refusal {
	if refusal := checkTopic(filter, true); refusal != nil {
		return refusal
	}
	h.Subscriptions = slices.DeleteFunc(h.Subscriptions, func(f string) bool { return f == filter })
	return nil
}

func (h fake) Get(key string) (string, bool) {
	value, ok := h.config[key]
	return value, ok
}

func (h fake) Entries() []host.Pair {
	var pairs []host.Pair
	for _, key := range slices.Sorted(maps.Keys(h.config)) {
		pairs = append(pairs, host.Pair{Name: key, Value: h.config[key]})
	}
	return pairs
}

func (h fake) Version() uint64 { return h.version }

func (h fake) Report(status uint32, detail string) {
	h.Health, h.HealthDetail = health.Status(status), detail
}

func (h fake) Identity() (string, uint64, uint32) { return "test", 1, 0 }

func (h fake) Log(_ uint32, message string, fields []host.Pair) {
	h.t.Helper()
	h.t.Log(message, fields)
}

func (h fake) Add(name string, labels []host.Pair, delta uint64) {
	h.Metrics[series(name, labels)] += float64(delta)
}

func (h fake) Set(name string, labels []host.Pair, value float64) {
	h.Metrics[series(name, labels)] = value
}

func (h fake) Observe(name string, labels []host.Pair, value float64) {
	h.Metrics[series(name, labels)] = value
}

func series(name string, labels []host.Pair) string {
	if len(labels) == 0 {
		return name
	}
	var parts []string
	for _, label := range labels {
		parts = append(parts, fmt.Sprintf("%s=%q", label.Name, label.Value))
	}
	return name + "{" + strings.Join(parts, ",") + "}"
}

func (h fake) After(name string, delayMS uint64) *host.Refusal {
	return h.timer(name, Timer{time.Duration(delayMS) * time.Millisecond, true})
}

func (h fake) Every(name string, periodMS uint64) *host.Refusal {
	return h.timer(name, Timer{time.Duration(periodMS) * time.Millisecond, false})
}

func (h fake) timer(name string, timer Timer) *host.Refusal {
	if refusal := checkTopic("ron.timer."+name, false); refusal != nil || strings.Contains(name, ".") {
		return &host.Refusal{Kind: string(bus.InvalidTopic), Text: "not a timer's name: " + name}
	}
	h.Timers[name] = timer
	return nil
}

func (h fake) Cancel(name string) { delete(h.Timers, name) }
