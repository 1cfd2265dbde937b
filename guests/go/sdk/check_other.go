//go:build !wasip1

package ron

import (
	"fmt"
	"reflect"
	"strings"
)

// misspelt says which method of s has the types of a handler that s lacks, and almost
// its name.
func misspelt(s Service, handlers []handler) error {
	v := reflect.ValueOf(s)
	for i := range v.NumMethod() {
		name := v.Type().Method(i).Name
		for _, h := range handlers {
			if !h.has.IsValid() && v.Method(i).Type() == h.wants && isSlip(name, h.name) {
				return fmt.Errorf("%T has %s, which the host does not call; did you mean %s?", s, name, h.name)
			}
		}
	}
	return nil
}

// isSlip is whether name is one edit away from meant: a letter that is missing, one too
// many, two that changed places, or a wrong one. In a short name a wrong letter makes
// another word: Step is not a slip of Stop.
func isSlip(name, meant string) bool {
	if strings.EqualFold(name, meant) {
		return name != meant
	}
	at := 0
	for at < min(len(name), len(meant)) && name[at] == meant[at] {
		at++
	}
	// What is left of both where they begin to differ.
	got, want := name[at:], meant[at:]
	switch len(got) - len(want) {
	case -1:
		return got == want[1:]
	case 1:
		return got[1:] == want
	case 0:
		swapped := len(got) > 1 && got[0] == want[1] && got[1] == want[0] && got[2:] == want[2:]
		return swapped || len(meant) > 4 && got[1:] == want[1:]
	}
	return false
}
