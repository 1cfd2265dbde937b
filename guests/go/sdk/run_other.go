//go:build !wasip1

package ron

import (
	"fmt"
	"os"

	"ron/internal/host"
)

func run() {
	if host.Present() {
		return
	}
	fmt.Fprintln(os.Stderr, "this is a service of ron-host: build and run it with `ron-host dev`, test it with `go test`")
	os.Exit(2)
}
