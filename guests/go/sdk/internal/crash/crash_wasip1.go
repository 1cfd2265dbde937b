package crash

import (
	"fmt"
	"runtime/debug"
	"strings"

	"ron/internal/abi"
	"ron/internal/host"
)

// home is the path of the author's module and a slash. Functions are called by it, and
// with -trimpath files too. Set by Watch.
var home string

// started is whether the program is past its init functions.
var started bool

// Started tells that it is.
func Started() { started = true }

// Watch makes the runtime's own reports reach the host.
func Watch() {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Path != "" {
		home = info.Main.Path + "/"
	}
	overrideWrite = write
}

// Recover is deferred where the host calls in.
func Recover() {
	if value := recover(); value != nil {
		report, begun := &report{}, false
		for line := range strings.Lines(string(debug.Stack())) {
			report.add([]byte(strings.TrimSuffix(line, "\n")))
			if !begun && strings.HasPrefix(line, "panic(") {
				report.restart() // above are only this function and its like
				begun = true
			}
		}
		fields := []host.Pair{{Name: "ron.panic", Value: "true"}}
		if place := report.place(); place != "" {
			fields = append(fields, host.Pair{Name: "location", Value: place})
		}
		fields = append(fields, host.Pair{Name: "traceback", Value: report.trace()})
		host.Current().Log(host.Error, message(value), fields)
		abi.Trap()
	}
}

func message(value any) (text string) {
	defer func() {
		if recover() != nil { // its own method panicked
			text = fmt.Sprintf("panic with a %T", value)
		}
	}()
	return fmt.Sprint(value)
}
