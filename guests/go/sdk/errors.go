package ron

import (
	"errors"
	"fmt"

	"ron/bus"
)

// Retry has the message delivered again, up to the service's max_deliveries. The
// retry of a nil error is nil.
func Retry(err error) error { return judge(err, true) }

// Retryf is [Retry] of a text; see [fmt.Errorf].
func Retryf(format string, a ...any) error { return Retry(fmt.Errorf(format, a...)) }

// Reject sends the message to the service's dead letters, whatever the error is.
// The rejection of a nil error is nil.
func Reject(err error) error { return judge(err, false) }

// Rejectf is [Reject] of a text; see [fmt.Errorf].
func Rejectf(format string, a ...any) error { return Reject(fmt.Errorf(format, a...)) }

// IsRetry is whether a handler that returns this error has its message delivered
// again.
//
// The outermost [Retry] or [Reject] in the error decides. Without one, errors of the
// bus that pass with time (overloaded, timeout, no responder) retry, anywhere in
// the chain, and every other error rejects, since most errors come back when the
// message does.
func IsRetry(err error) bool {
	if v, ok := errors.AsType[*verdict](err); ok {
		return v.retry
	}
	e, ok := errors.AsType[*bus.Error](err)
	return ok && e.Transient()
}

type verdict struct {
	err   error
	retry bool
}

func judge(err error, retry bool) error {
	if err == nil {
		return nil
	}
	return &verdict{err, retry}
}

func (v *verdict) Error() string { return v.err.Error() }
func (v *verdict) Unwrap() error { return v.err }
