package ron

// Batch is several messages, and what became of each.
type Batch struct {
	messages []Message
	outcomes []outcome
}

type outcome struct {
	reply Reply
	err   error
}

// NewBatch makes a batch, for a test of OnBatch.
func NewBatch(messages ...Message) *Batch {
	return &Batch{messages, make([]outcome, len(messages))}
}

// Messages are in the order of the mailbox; there is at least one.
func (b *Batch) Messages() []Message { return b.messages }

// Each handles each message as OnMessage handles one. An error settles its own
// message alone; the rest go on.
//
//	func (h *Hits) OnBatch(b *ron.Batch) { b.Each(h.OnMessage) }
func (b *Batch) Each(handle func(Message) (Reply, error)) {
	for i, m := range b.messages {
		b.outcomes[i].reply, b.outcomes[i].err = handle(m)
	}
}

// Settle says what became of the message at an index of [Batch.Messages]. One of
// which nothing is said was handled, without a reply.
func (b *Batch) Settle(index int, reply Reply, err error) {
	b.outcomes[index] = outcome{reply, err}
}

// Outcome is what became of the message at an index.
func (b *Batch) Outcome(index int) (Reply, error) {
	o := b.outcomes[index]
	return o.reply, o.err
}
