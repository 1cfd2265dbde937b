// Package ron is for services of ron-host in Go: a type with Start and OnMessage,
// and a main that hands it over.
//
//	type Orders struct{ open int }
//
//	// Start runs in each new instance, before any message.
//	func (o *Orders) Start() error {
//		if err := bus.Subscribe("orders.*.created"); err != nil {
//			return err
//		}
//		return timer.Every("report", 10*time.Second)
//	}
//
//	func (o *Orders) OnMessage(m ron.Message) (ron.Reply, error) {
//		if m.Timer() == "report" {
//			metrics.Set("orders_open", nil, float64(o.open))
//			return ron.NoReply, nil
//		}
//		limit, err := config.Parse("max_open", 1000)
//		if err != nil {
//			return ron.NoReply, err // rejects: the message goes to the dead letters
//		}
//		if o.open >= limit {
//			return ron.NoReply, ron.Retryf("%d orders are open", limit)
//		}
//		o.open++
//		slog.Info("accepted", "order", m.Text())
//		return ron.Text("accepted"), nil
//	}
//
//	func main() { ron.Run(&Orders{}) }
//
// The host calls a service once at a time, so there is nothing to lock. What a
// handler returns decides what becomes of its message: a [Reply] settles it,
// [Retry] has it delivered again, any other error sends it to the service's dead
// letters. A panic ends the instance: the host logs it with its place and its
// trace, starts a new instance and delivers the message again.
//
// Other goroutines run while a handler waits for something, and rest between calls.
//
// Records of log/slog go to the host at every level, and the host filters them. What
// is printed to stdout and stderr is logged too, a record a line.
//
// A service may have more than Start and OnMessage: see [EventHandler], [Stopper],
// [Handover] and [BatchHandler]. Package ron/rontest runs one in an ordinary test.
package ron

import (
	"log/slog"

	"ron/internal/service"
)

// Service is what the host runs.
type Service interface {
	// Start is called once in each new instance, before any message. It
	// subscribes and sets timers. After an error the instance is discarded and
	// the service's restart policy decides.
	Start() error

	// OnMessage handles a message that a subscription or a timer brought.
	OnMessage(Message) (Reply, error)
}

// EventHandler is a [Service] that hears what the kernel announces. Lossy: a
// service that falls behind misses the oldest events.
type EventHandler interface {
	OnEvent(Event)
}

// Stopper is a [Service] that has something to do at its end. Stop is the last
// call, and must return within the stop deadline. It is not called after a crash.
type Stopper interface {
	Stop()
}

// Handover is a [Service] whose state outlives a hot swap. It imports package
// ron/handover too.
type Handover interface {
	// Save returns the state, at most 1 MiB unless configuration says more. It is
	// called on the old instance, when its last message is done.
	Save() (State, error)

	// Restore takes over what a version of this service saved. It is called on
	// the new instance, after Start and before any message. An error keeps the
	// old instance.
	Restore(State) error
}

// State is what a service hands to the version that replaces it.
type State struct {
	// Schema is the author's own number for the layout of Bytes. Raise it when
	// the layout changes.
	Schema uint32
	Bytes  []byte
}

// BatchHandler is a [Service] that takes very many small messages by the batch. It
// imports package ron/bulk too.
type BatchHandler interface {
	// OnBatch handles messages in order; [Batch.Each] is the usual way. The host
	// calls it when several messages wait, and OnMessage when one does. A panic
	// here costs no message: all of the batch are delivered again, one at a
	// time, so that the one at fault is found.
	OnBatch(*Batch)
}

// LevelTrace is the level of log/slog that the host calls trace.
const LevelTrace = slog.Level(-8)

// Run hands the service over to the host. Call it once, from main.
//
// It panics when the service has methods that the host would never call, or
// lacks those that it promised.
func Run(s Service) {
	if service.Current != nil {
		panic("ron.Run: a component is one service, and Run was called before")
	}
	if err := check(s); err != nil {
		panic(err)
	}
	service.Current = s
	run()
}
