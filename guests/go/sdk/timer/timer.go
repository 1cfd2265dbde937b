// Package timer wakes an idle service.
//
// A timer that fires is delivered to OnMessage as a message without payload, whose
// Timer method tells the timer's name. A timer set again under its name replaces the
// earlier one. Timers end with the instance that set them, so set them in Start.
//
// Times are kept in whole milliseconds, rounded up. Errors are those of package bus.
package timer

import (
	"time"

	"ron/bus"
	"ron/internal/host"
)

// After fires once. The name is one token of a topic.
func After(name string, delay time.Duration) error {
	return refused(host.Current().After(name, millis(delay)))
}

// Every fires each period. A tick that finds its predecessor still queued is dropped,
// so a slow service is not buried.
func Every(name string, period time.Duration) error {
	return refused(host.Current().Every(name, millis(period)))
}

// Cancel ends a timer. One that does not exist is no error.
func Cancel(name string) { host.Current().Cancel(name) }

// millis rounds up, so that a short time is not none at all.
func millis(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	return (uint64(d) + uint64(time.Millisecond) - 1) / uint64(time.Millisecond)
}

func refused(r *host.Refusal) error {
	if r == nil {
		return nil
	}
	return &bus.Error{Kind: bus.Kind(r.Kind), Text: r.Text, Limit: r.Limit}
}
