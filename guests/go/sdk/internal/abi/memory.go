// Package abi is the canonical ABI of components as far as the contract needs it:
// where the host puts what it hands over, and how that is read and written.
//
// It is written by hand, since generated bindings allocate from Go's heap when the host
// asks for memory. The garbage collector may start there, it reads the clock, and a
// component that calls out while the host is calling in is ended. The memory here
// is none of the heap's, so the collector is free to run at all other times.
package abi
