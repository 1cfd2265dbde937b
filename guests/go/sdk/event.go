package ron

// Event is something that the kernel announced to every service: a
// [HealthChanged], [ConfigUpdated], [ServiceCrashed] or [Shutdown].
type Event interface{ event() }

// HealthChanged tells that a service became able or unable to do its work.
type HealthChanged struct {
	Service string
	// OK is whether it is ready now.
	OK bool
}

// ConfigUpdated tells that new values are in force; package ron/config reads them.
type ConfigUpdated struct {
	// Version is that of the configuration that is now in force.
	Version uint64
}

// ServiceCrashed tells that a service stopped running when it should not have.
type ServiceCrashed struct {
	Service string
	Reason  CrashReason
}

// CrashReason is why a service stopped running.
type CrashReason struct {
	// Label is a stable, machine-readable name: trap-unreachable, deadline,
	// memory-limit, panic, ... New labels may appear.
	Label string
	// Message is what a person should read: the panic's text, the exit code, the
	// limit.
	Message string
}

// Shutdown tells that the host is about to stop every service.
type Shutdown struct{}

func (HealthChanged) event()  {}
func (ConfigUpdated) event()  {}
func (ServiceCrashed) event() {}
func (Shutdown) event()       {}
