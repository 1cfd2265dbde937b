// Package bus carries messages between services.
//
// A topic is dot-separated tokens of A-Z a-z 0-9 _ -: orders.eu.created. A filter may
// put * for one token and > for all that follow: orders.*.created, orders.>. Topics
// that begin with ron. are the host's.
package bus

import (
	"fmt"
	"math"
	"time"

	"ron/internal/host"
)

// Payload is what a message can carry: text or bytes.
type Payload interface{ ~string | ~[]byte }

// Publish publishes to every subscribed service. It returns how many mailboxes
// accepted the message, and never blocks.
func Publish[P Payload](topic string, payload P) (int, error) {
	accepted, refusal := host.Current().Publish(topic, []byte(payload))
	return int(accepted), refused(refusal)
}

// Request publishes, and waits at most timeout for the first reply. It waits in whole
// milliseconds, rounded up. The wait counts towards this service's own handler
// deadline.
func Request[P Payload](topic string, payload P, timeout time.Duration) ([]byte, error) {
	ms := min(max((timeout+time.Millisecond-1)/time.Millisecond, 0), math.MaxUint32)
	reply, refusal := host.Current().Request(topic, []byte(payload), uint32(ms))
	return reply, refused(refusal)
}

// Subscribe has messages that match the filter delivered to OnMessage.
//
// Repeating a filter changes nothing. Subscriptions belong to the service and survive
// a restart; after a hot swap only those made again by Start remain.
func Subscribe(filter string) error { return refused(host.Current().Subscribe(filter)) }

// Unsubscribe ends a subscription. One that does not exist is no error.
func Unsubscribe(filter string) error { return refused(host.Current().Unsubscribe(filter)) }

// Kind is why the bus refused a call. It is an error itself, so that
//
//	errors.Is(err, bus.Timeout)
//
// tells whether an error is of that kind.
type Kind string

const (
	// Denied: configuration grants this service no such topic.
	Denied Kind = "denied"
	// InvalidTopic: not a topic, or not a filter; Text says which rule it breaks.
	InvalidTopic Kind = "invalid-topic"
	// PayloadTooLarge: the payload has more than Limit bytes.
	PayloadTooLarge Kind = "payload-too-large"
	// Overloaded: a mailbox that rejects on overflow was full, or this service
	// publishes faster than its limit.
	Overloaded Kind = "overloaded"
	// Timeout: no reply came in time.
	Timeout Kind = "timeout"
	// NoResponder: nobody subscribes to the topic of a request, or nobody who does
	// replies.
	NoResponder Kind = "no-responder"
	// Failed: the service that was asked failed to handle the request.
	Failed Kind = "failed"
	// Other: something that this version of the SDK has no name for.
	Other Kind = "other"
)

func (k Kind) Error() string {
	switch k {
	case InvalidTopic:
		return "invalid topic"
	case PayloadTooLarge:
		return "the payload is too large"
	case Overloaded:
		return "a mailbox is full, or this service publishes too fast"
	case Timeout:
		return "no reply came in time"
	case NoResponder:
		return "nobody replies to this topic"
	case Failed:
		return "the service that was asked failed"
	default:
		return string(k)
	}
}

// Error is a call that the bus refused.
type Error struct {
	Kind Kind
	// Text is what the host says about it; "" for those whose kind says all.
	Text string
	// Limit is what a payload may have, in bytes, for PayloadTooLarge.
	Limit uint64
}

func (e *Error) Error() string {
	switch {
	case e.Kind == PayloadTooLarge:
		return fmt.Sprintf("the payload is larger than %d bytes", e.Limit)
	case e.Kind == Other:
		return e.Text
	case e.Text != "":
		return e.Kind.Error() + ": " + e.Text
	default:
		return e.Kind.Error()
	}
}

// Unwrap returns the error's kind.
func (e *Error) Unwrap() error { return e.Kind }

// Transient is whether the same call may succeed later: the bus was overloaded, no
// reply came in time, or nobody was there to reply.
func (e *Error) Transient() bool {
	return e.Kind == Overloaded || e.Kind == Timeout || e.Kind == NoResponder
}

func refused(r *host.Refusal) error {
	if r == nil {
		return nil
	}
	return &Error{Kind(r.Kind), r.Text, r.Limit}
}
