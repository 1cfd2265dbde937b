// The conformance service in Go: a topic for each thing that a service can do.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"ron"
	_ "ron/bulk"
	"ron/bus"
	"ron/config"
	_ "ron/handover"
	"ron/health"
	"ron/identity"
	"ron/metrics"
	"ron/timer"
)

type conformance struct {
	counter uint64
	grown   [][]byte
}

var kind = metrics.Labels{"kind": "test"}

func main() { ron.Run(&conformance{}) }

func (c *conformance) Start() error {
	if text, ok := config.Get("fail_start"); ok {
		return errors.New(text)
	}
	if err := bus.Subscribe("do.>"); err != nil {
		return err
	}
	slog.Info("conformance: started")
	return nil
}

func (c *conformance) OnMessage(m ron.Message) (ron.Reply, error) {
	if name := m.Timer(); name != "" {
		_, err := bus.Publish("seen.timer", name)
		return ron.NoReply, err
	}
	what, ok := strings.CutPrefix(m.Topic, "do.")
	if !ok {
		return ron.NoReply, ron.Rejectf("unknown topic %s", m.Topic)
	}
	text := m.Text()
	word, rest, _ := strings.Cut(text, " ")
	switch what {
	case "echo":
		return ron.Bytes(m.Payload), nil
	case "silent":
		return ron.NoReply, nil
	case "message":
		return replyf("%d %s %s %d %t %d", m.ID, m.Topic, m.Source, m.Attempt, m.WantsReply, len(m.Payload))

	case "retry":
		if m.Attempt == 1 {
			return ron.NoReply, ron.Retryf("once more")
		}
		return replyf("%d", m.Attempt)
	case "reject":
		return ron.NoReply, ron.Rejectf("never")
	case "crash":
		panic("told to crash")
	case "spin":
		for i := 0; ; i++ {
			c.counter += uint64(i)
		}
	case "grow":
		for {
			c.grown = append(c.grown, make([]byte, 1<<20))
		}

	case "publish":
		return counted(bus.Publish(word, rest))
	case "publish-size":
		size, err := strconv.Atoi(rest)
		if err != nil {
			return ron.NoReply, err
		}
		return counted(bus.Publish(word, make([]byte, size)))
	case "request":
		millis, body, _ := strings.Cut(rest, " ")
		timeout, err := time.ParseDuration(millis + "ms")
		if err != nil {
			return ron.NoReply, err
		}
		reply, err := bus.Request(word, body, timeout)
		if err != nil {
			return refused(err)
		}
		return ron.Bytes(reply), nil
	case "subscribe":
		return done(bus.Subscribe(text))
	case "unsubscribe":
		return done(bus.Unsubscribe(text))

	case "config":
		if value, ok := config.Get(text); ok {
			return ron.Text("= " + value), nil
		}
		return ron.Text("none"), nil
	case "config-all":
		var lines []string
		entries := config.Entries()
		for _, key := range slices.Sorted(maps.Keys(entries)) {
			lines = append(lines, key+"="+entries[key])
		}
		return ron.Text(strings.Join(lines, "\n")), nil
	case "config-version":
		return replyf("%d", config.Version())

	case "identity":
		self := identity.Get()
		return replyf("%s %d %d", self.Service, self.Generation, self.Replica)
	case "health":
		status := map[string]health.Status{"ok": health.OK, "degraded": health.Degraded, "failing": health.Failing}
		health.Report(status[word], rest)
		return done(nil)
	case "log":
		levels := map[string]slog.Level{
			"trace": ron.LevelTrace, "debug": slog.LevelDebug, "info": slog.LevelInfo,
			"warn": slog.LevelWarn, "error": slog.LevelError,
		}
		slog.Log(context.Background(), levels[word], rest, "answer", 42, "word", "größe")
		return done(nil)

	case "add":
		delta, err := strconv.ParseUint(rest, 10, 64)
		if err != nil {
			return ron.NoReply, err
		}
		metrics.Add(word, kind, delta)
		return done(nil)
	case "set", "observe":
		value, err := strconv.ParseFloat(rest, 64)
		if err != nil {
			return ron.NoReply, err
		}
		if what == "set" {
			metrics.Set(word, kind, value)
		} else {
			metrics.Observe(word, kind, value)
		}
		return done(nil)

	case "after", "every":
		delay, err := time.ParseDuration(rest + "ms")
		if err != nil {
			return ron.NoReply, err
		}
		if what == "after" {
			return done(timer.After(word, delay))
		}
		return done(timer.Every(word, delay))
	case "cancel":
		timer.Cancel(text)
		return done(nil)

	case "next":
		c.counter++
		return replyf("%d", c.counter)
	case "put":
		counter, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return ron.NoReply, err
		}
		c.counter = counter
		return done(nil)
	case "item":
		if _, err := bus.Publish("seen.item", text); err != nil {
			return ron.NoReply, err
		}
		if strings.HasSuffix(text, "9") {
			return ron.NoReply, ron.Rejectf("ninth")
		}
		return ron.NoReply, nil
	}
	return ron.NoReply, ron.Rejectf("unknown topic %s", m.Topic)
}

func (c *conformance) OnBatch(b *ron.Batch) {
	metrics.Add("batched_total", kind, uint64(len(b.Messages())))
	b.Each(c.OnMessage)
}

func (c *conformance) OnEvent(event ron.Event) {
	var text string
	switch e := event.(type) {
	case ron.HealthChanged:
		text = fmt.Sprintf("health %s %t", e.Service, e.OK)
	case ron.ConfigUpdated:
		text = fmt.Sprintf("config-updated %d", e.Version)
	case ron.ServiceCrashed:
		text = fmt.Sprintf("service-crashed %s %s %s", e.Service, e.Reason.Label, e.Reason.Message)
	case ron.Shutdown:
		text = "shutdown"
	}
	publish("seen.event", text)
}

func (c *conformance) Stop() { publish("seen.stop", "") }

func (c *conformance) Save() (ron.State, error) {
	if text, ok := config.Get("fail_save"); ok {
		return ron.State{}, errors.New(text)
	}
	return ron.State{Schema: 1, Bytes: strconv.AppendUint(nil, c.counter, 10)}, nil
}

func (c *conformance) Restore(state ron.State) error {
	if state.Schema != 1 {
		return fmt.Errorf("schema %d", state.Schema)
	}
	counter, err := strconv.ParseUint(string(state.Bytes), 10, 64)
	if err != nil {
		return errors.New("not a number")
	}
	c.counter = counter
	return nil
}

func publish(topic, text string) {
	if _, err := bus.Publish(topic, text); err != nil {
		slog.Error("cannot publish", "topic", topic, "error", err)
	}
}

func replyf(format string, a ...any) (ron.Reply, error) {
	return ron.Text(fmt.Sprintf(format, a...)), nil
}

func counted(accepted int, err error) (ron.Reply, error) {
	if err != nil {
		return refused(err)
	}
	return replyf("%d", accepted)
}

func done(err error) (ron.Reply, error) {
	if err != nil {
		return refused(err)
	}
	return ron.Text("done"), nil
}

// refused tells which error it was, as the other languages do.
func refused(err error) (ron.Reply, error) {
	e, ok := errors.AsType[*bus.Error](err)
	switch {
	case !ok:
		return ron.NoReply, err
	case e.Kind == bus.PayloadTooLarge:
		return replyf("error %s %d", string(e.Kind), e.Limit)
	case e.Text != "":
		return replyf("error %s %s", string(e.Kind), e.Text)
	default:
		return replyf("error %s", string(e.Kind))
	}
}
