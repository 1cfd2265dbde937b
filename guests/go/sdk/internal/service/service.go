// Package service knows what the component's one service is, for the packages that
// export its parts.
package service

var (
	// Current is the ron.Service that runs; nil before ron.Run.
	Current any

	// Handover and Bulk are whether the optional exports are part of the program.
	Handover, Bulk bool

	// Check says what is wrong with a ron.Service, if something is. Package ron sets it.
	Check func(any) error
)
