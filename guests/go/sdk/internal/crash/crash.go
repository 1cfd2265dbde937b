// Package crash tells the host why an instance ends, before it does.
//
// A panic of a handler is recovered, written as the one record that the host takes for
// the reason of the crash, and followed by a trap. What cannot be recovered - another
// goroutine's panic, a deadlock, a stack overflow, no more memory - the runtime prints,
// and exits. That text is caught on its way out and made the same record.
package crash
