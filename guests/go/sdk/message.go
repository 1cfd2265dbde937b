package ron

import "strings"

// Message is one message taken from this service's mailbox. It is the handler's to
// keep.
type Message struct {
	// ID is unique in this host for as long as it runs, and the same on redelivery.
	ID uint64
	// Topic is what it was published to.
	Topic string
	// Payload is what was published.
	Payload []byte
	// Source is the service that published it, or the host's own name for a bridge.
	Source string
	// Attempt is 1 on first delivery, then 2, 3, ...
	Attempt uint32
	// WantsReply is whether the publisher waits for a reply.
	WantsReply bool
}

// Text is the payload as a string.
func (m Message) Text() string { return string(m.Payload) }

// Timer is the name of the timer that fired, or "" when no timer brought this.
func (m Message) Timer() string {
	name, ok := strings.CutPrefix(m.Topic, "ron.timer.")
	if !ok {
		return ""
	}
	return name
}

// Reply is what a handled message is answered with. The first one goes to a
// publisher that waits, and is dropped otherwise.
type Reply struct {
	bytes []byte
	some  bool
}

// NoReply is that of a service which does not answer such messages. A publisher
// that waits gets bus.NoResponder when nobody answers; an empty reply is Text("").
var NoReply = Reply{}

// Text replies with a string.
func Text(text string) Reply { return Reply{bytes: []byte(text), some: true} }

// Bytes replies with bytes.
func Bytes(bytes []byte) Reply { return Reply{bytes: bytes, some: true} }

// Get returns the bytes, and whether there is a reply at all.
func (r Reply) Get() (bytes []byte, ok bool) { return r.bytes, r.some }

// String is the reply as text; "no reply" when there is none.
func (r Reply) String() string {
	if !r.some {
		return "no reply"
	}
	return string(r.bytes)
}
