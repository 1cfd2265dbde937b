// Package identity tells a service who it is.
package identity

import "ron/internal/host"

// Instance is one running instance of a service.
type Instance struct {
	// Service is its name in the configuration.
	Service string
	// Generation grows with each restart and each hot swap of the service.
	Generation uint64
	// Replica is which of the service's replicas it is, from 0.
	Replica uint32
}

// Get returns who this instance is. It never changes while the instance lives.
func Get() Instance {
	service, generation, replica := host.Current().Identity()
	return Instance{service, generation, replica}
}
