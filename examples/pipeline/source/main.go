// source reads three thermometers, one after the other. What they show is made up, and
// the same after each start.
package main

import (
	"encoding/json"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"

	"ron"
	"ron/bus"
	"ron/config"
	"ron/timer"
)

// thermometer shows about usual, and wanders.
type thermometer struct {
	sensor         string
	usual, celsius float64
}

type reading struct {
	Number  int     `json:"number"`
	Sensor  string  `json:"sensor"`
	Celsius float64 `json:"celsius"`
}

type Source struct {
	thermometers []thermometer
	random       *rand.Rand
	read         int
}

func (s *Source) Start() error {
	s.thermometers = []thermometer{{"attic", 24, 24}, {"cellar", 11, 11}, {"garden", 7, 7}}
	s.random = rand.New(rand.NewPCG(1, 2))
	return s.setTimer()
}

// OnEvent follows a changed period.
func (s *Source) OnEvent(event ron.Event) {
	if _, ok := event.(ron.ConfigUpdated); ok {
		if err := s.setTimer(); err != nil {
			slog.Warn("the period stays as it was", "error", err)
		}
	}
}

func (s *Source) setTimer() error {
	period, err := config.Parse("period", 500*time.Millisecond)
	if err != nil {
		return err
	}
	return timer.Every("read", period)
}

// OnMessage is called by the timer alone: nothing is subscribed to.
func (s *Source) OnMessage(ron.Message) (ron.Reply, error) {
	t := &s.thermometers[s.read%len(s.thermometers)]
	t.celsius += (t.usual-t.celsius)/10 + s.random.Float64() - 0.5
	s.read++
	raw, err := json.Marshal(reading{s.read, t.sensor, math.Round(t.celsius*10) / 10})
	if err != nil {
		return ron.NoReply, err
	}
	_, err = bus.Publish("readings.raw", raw)
	return ron.NoReply, err
}

func main() { ron.Run(&Source{}) }
