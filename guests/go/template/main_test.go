package main

import (
	"testing"

	"ron/rontest"
)

func TestGreets(t *testing.T) {
	host := rontest.New(t)
	host.SetConfig("greeting", "Ahoj")
	host.Start(&Greeter{})

	reply, err := host.Send("{{name}}.greet", "Ada")
	if err != nil || reply.String() != "Ahoj, Ada!" {
		t.Errorf("got %v, %v", reply, err)
	}
	if host.Metrics["greetings_total"] != 1 {
		t.Errorf("metrics are %v", host.Metrics)
	}
}

func TestRejectsNobody(t *testing.T) {
	host := rontest.Start(t, &Greeter{})
	if _, err := host.Send("{{name}}.greet", ""); err == nil {
		t.Error("nobody was greeted")
	}
}
