// {{name}} answers greetings.
package main

import (
	"fmt"
	"log/slog"

	"ron"
	"ron/bus"
	"ron/config"
	"ron/metrics"
)

type Greeter struct{}

// Start runs in each new instance, before any message.
func (g *Greeter) Start() error {
	if err := bus.Subscribe("{{name}}.greet"); err != nil {
		return err
	}
	slog.Info("ready to greet")
	return nil
}

// OnMessage handles what a subscription or a timer brought.
func (g *Greeter) OnMessage(m ron.Message) (ron.Reply, error) {
	greeting, err := config.Parse("greeting", "Hello")
	if err != nil {
		return ron.NoReply, err
	}
	name := m.Text()
	if name == "" {
		return ron.NoReply, ron.Rejectf("nobody to greet")
	}
	metrics.Add("greetings_total", nil, 1)
	return ron.Text(fmt.Sprintf("%s, %s!", greeting, name)), nil
}

func main() { ron.Run(&Greeter{}) }
