// Package metrics has this service's own metrics, exposed by the host at /metrics with
// a service label.
//
// Names follow Prometheus. Past the service's limit of series a value goes to the
// series whose labels all read other.
package metrics

import (
	"maps"
	"slices"

	"ron/internal/host"
)

// Labels are names and their values; nil for none.
type Labels map[string]string

// Add adds to a counter.
//
//	metrics.Add("orders_total", metrics.Labels{"region": "eu"}, 1)
func Add(name string, labels Labels, delta uint64) {
	host.Current().Add(name, labels.pairs(), delta)
}

// Set sets a gauge.
func Set(name string, labels Labels, value float64) {
	host.Current().Set(name, labels.pairs(), value)
}

// Observe observes a value in a histogram; seconds for times.
func Observe(name string, labels Labels, value float64) {
	host.Current().Observe(name, labels.pairs(), value)
}

// pairs are in the order of the names, so that a series is always named alike.
func (l Labels) pairs() []host.Pair {
	if len(l) == 0 {
		return nil
	}
	pairs := make([]host.Pair, 0, len(l))
	for _, name := range slices.Sorted(maps.Keys(l)) {
		pairs = append(pairs, host.Pair{Name: name, Value: l[name]})
	}
	return pairs
}
