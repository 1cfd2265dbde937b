package ron

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"ron/internal/service"
)

func init() { service.Check = func(s any) error { return check(s.(Service)) } }

// check holds the methods of a service against what the host calls and against the
// exports of its component: one without the other is a mistake that would otherwise
// show as silence.
func check(s Service) error {
	if s == nil {
		return errors.New("ron.Run: nil is no service")
	}
	handlers := optional(s)
	has := map[string]bool{}
	for _, h := range handlers {
		has[h.name] = h.has.IsValid()
		if has[h.name] && h.has.Type() != h.wants {
			return fmt.Errorf("%T has %s; ron wants %s", s, h.as(h.has.Type()), h.as(h.wants))
		}
	}
	if err := misspelt(s, handlers); err != nil {
		return err
	}
	for _, pair := range [][2]string{{"Save", "Restore"}, {"Restore", "Save"}} {
		if has[pair[0]] && !has[pair[1]] {
			return fmt.Errorf("%T has %s without %s; a handover needs both", s, pair[0], pair[1])
		}
	}
	_, hands := s.(Handover)
	_, takes := s.(BatchHandler)
	for _, part := range []struct {
		has, linked  bool
		methods, pkg string
	}{
		{hands, service.Handover, "Save and Restore", "ron/handover"},
		{takes, service.Bulk, "OnBatch", "ron/bulk"},
	} {
		switch {
		case part.has && !part.linked:
			return fmt.Errorf("%T has %s, which the host cannot see: add import _ %q", s, part.methods, part.pkg)
		case part.linked && !part.has:
			return fmt.Errorf("%T imports %s without the methods %s", s, part.pkg, part.methods)
		}
	}
	return nil
}

// handler is a method that a service may have.
type handler struct {
	name  string
	has   reflect.Value // the zero Value if the service has none of that name
	wants reflect.Type
}

// as is the method with the types of f, as Go writes it.
func (h handler) as(f reflect.Type) string {
	return h.name + strings.TrimPrefix(f.String(), "func")
}

// optional looks up the methods that s may have. Each name is a constant where it is
// asked for: then the linker keeps the methods of that name, and drops others that
// nobody calls.
func optional(s Service) []handler {
	v := reflect.ValueOf(s)
	return []handler{
		{"OnEvent", v.MethodByName("OnEvent"), reflect.TypeFor[func(Event)]()},
		{"Stop", v.MethodByName("Stop"), reflect.TypeFor[func()]()},
		{"Save", v.MethodByName("Save"), reflect.TypeFor[func() (State, error)]()},
		{"Restore", v.MethodByName("Restore"), reflect.TypeFor[func(State) error]()},
		{"OnBatch", v.MethodByName("OnBatch"), reflect.TypeFor[func(*Batch)]()},
	}
}
