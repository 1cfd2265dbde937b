// Package health is what this service says of itself.
//
// The host adds what it sees: a service that is down, restarting or past a deadline is
// not ready, whatever it says.
package health

import "ron/internal/host"

// Status is how well a service does its work.
type Status uint32

// The order is the contract's.
const (
	// OK: all is well. A service that says nothing is taken to be.
	OK Status = iota
	// Degraded: works, with less than usual: ready, and shown as degraded.
	Degraded
	// Failing: cannot do its work: not ready. The service is not restarted for it.
	Failing
)

// Report says how the service does; a detail of "" is none.
//
//	health.Report(health.Degraded, "the cache is cold")
func Report(status Status, detail string) { host.Current().Report(uint32(status), detail) }
