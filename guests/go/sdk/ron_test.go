package ron_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"ron"
	"ron/bus"
	"ron/config"
	"ron/health"
	"ron/metrics"
	"ron/rontest"
	"ron/timer"
)

func TestAnErrorRejectsUnlessTimeMayHelp(t *testing.T) {
	timeout := &bus.Error{Kind: bus.Timeout}
	for _, c := range []struct {
		err   error
		text  string
		retry bool
	}{
		{errors.New("odd"), "odd", false},
		{timeout, "no reply came in time", true},
		{fmt.Errorf("asking for stock: %w", timeout), "asking for stock: no reply came in time", true},
		{&bus.Error{Kind: bus.Denied, Text: "a.b"}, "denied: a.b", false},
		{&bus.Error{Kind: bus.PayloadTooLarge, Limit: 9}, "the payload is larger than 9 bytes", false},
		{ron.Reject(timeout), "no reply came in time", false},
		{ron.Retryf("%d orders are open", 3), "3 orders are open", true},
		{fmt.Errorf("order 7: %w", ron.Retryf("later")), "order 7: later", true},
	} {
		if ron.IsRetry(c.err) != c.retry || c.err.Error() != c.text {
			t.Errorf("%q: retry %t, want %q, %t", c.err, ron.IsRetry(c.err), c.text, c.retry)
		}
	}
	if ron.Retry(nil) != nil || ron.Reject(nil) != nil {
		t.Error("no error became one")
	}
	if !errors.Is(fmt.Errorf("asking: %w", timeout), bus.Timeout) || errors.Is(timeout, bus.Denied) {
		t.Error("a kind is not known by errors.Is")
	}
}

func TestABatchKeepsAnOutcomeForEach(t *testing.T) {
	b := ron.NewBatch(ron.Message{Topic: "a"}, ron.Message{Topic: "b"}, ron.Message{Topic: "c"})
	b.Each(func(m ron.Message) (ron.Reply, error) {
		switch m.Topic {
		case "a":
			return ron.Text(""), nil
		case "b":
			return ron.NoReply, errors.New("no")
		}
		return ron.NoReply, nil
	})
	if reply, err := b.Outcome(0); err != nil || reply.String() != "" {
		t.Errorf("an empty reply is one: %v, %v", reply, err)
	}
	if _, err := b.Outcome(1); err == nil {
		t.Error("the error is lost")
	}
	if reply, err := b.Outcome(2); err != nil || reply.String() != "no reply" {
		t.Errorf("got %v, %v", reply, err)
	}
}

type probe struct {
	onMessage func(ron.Message) (ron.Reply, error)
}

func (p *probe) Start() error { return bus.Subscribe("do.*.>") }

func (p *probe) OnMessage(m ron.Message) (ron.Reply, error) { return p.onMessage(m) }

func TestConfigIsParsedByTheTypeOfTheFallback(t *testing.T) {
	host := rontest.New(t)
	for key, value := range map[string]string{
		"n": "5", "text": "5", "list": `["a","b"]`, "pause": "250ms", "soon": "soon",
	} {
		host.SetConfig(key, value)
	}
	check(t, 5)(config.Parse("n", 0))
	check(t, 1.5)(config.Parse("absent", 1.5))
	check(t, "5")(config.Parse("text", ""))
	check(t, 250*time.Millisecond)(config.Parse("pause", time.Second))
	if list, err := config.Parse("list", []string{}); err != nil || !slices.Equal(list, []string{"a", "b"}) {
		t.Errorf("got %v, %v", list, err)
	}
	_, err := config.Parse("soon", uint64(1))
	if want := `config "soon": expected uint64, found "soon" (invalid character 's' looking for beginning of value)`; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func check[T comparable](t *testing.T, want T) func(T, error) {
	return func(got T, err error) {
		t.Helper()
		if err != nil || got != want {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
}

func TestTheStandInSeesWhatAServiceDoes(t *testing.T) {
	host := rontest.New(t)
	host.Reply("stock.*", func(topic string, payload []byte) ([]byte, error) {
		if topic == "stock.slow" {
			return nil, bus.Timeout
		}
		return append(payload, "!"...), nil
	})
	host.Start(&probe{func(m ron.Message) (ron.Reply, error) {
		if m.Timer() == "beat" {
			return ron.Text("beaten"), nil
		}
		metrics.Add("seen_total", metrics.Labels{"b": "2", "a": "1"}, 2)
		health.Report(health.Degraded, "cold")
		if err := timer.After("beat", 1500*time.Microsecond); err != nil {
			return ron.NoReply, err
		}
		reply, err := bus.Request("stock."+m.Text(), "x", time.Second)
		return ron.Bytes(reply), err
	}})

	if reply, err := host.Send("do.a.b", "now"); err != nil || reply.String() != "x!" {
		t.Errorf("got %v, %v", reply, err)
	}
	if _, err := host.Send("do.a.b", "slow"); !errors.Is(err, bus.Timeout) || !ron.IsRetry(err) {
		t.Errorf("got %v", err)
	}
	if _, err := host.Send("do.a.b", "a..b"); !errors.Is(err, bus.InvalidTopic) {
		t.Errorf("got %v", err)
	}
	if host.Metrics[`seen_total{a="1",b="2"}`] != 6 || host.Health != health.Degraded || host.HealthDetail != "cold" {
		t.Errorf("got %v, %v, %q", host.Metrics, host.Health, host.HealthDetail)
	}
	if want := (rontest.Timer{Period: 2 * time.Millisecond, Once: true}); host.Timers["beat"] != want {
		t.Errorf("got %v", host.Timers)
	}
	if reply, err := host.Fire("beat"); err != nil || reply.String() != "beaten" || len(host.Timers) != 0 {
		t.Errorf("got %v, %v, %v", reply, err, host.Timers)
	}
	if want := []rontest.Published{{Topic: "stock.now", Payload: "x"}, {Topic: "stock.slow", Payload: "x"}}; !slices.Equal(host.Published, want) {
		t.Errorf("got %v", host.Published)
	}
}

type hidden struct{ probe }

func (hidden) Save() (ron.State, error) { return ron.State{}, nil }
func (hidden) Restore(ron.State) error  { return nil }

type half struct{ probe }

func (half) Save() (ron.State, error) { return ron.State{}, nil }

type fails struct{ probe }

func (fails) Stop() error { return nil }

type hears struct{ probe }

func (hears) OnEvent(string) {}

type saves struct{ probe }

func (saves) Save() (string, error)   { return "", nil }
func (saves) Restore(ron.State) error { return nil }

type restores struct{ probe }

func (restores) Save() (ron.State, error)     { return ron.State{}, nil }
func (restores) Restore(uint32, []byte) error { return nil }

type batches struct{ probe }

func (batches) OnBatch(ron.Batch) {}

type stpo struct{ probe }

func (stpo) Stpo() {}

type onEvnt struct{ probe }

func (onEvnt) OnEvnt(ron.Event) {}

type onevent struct{ probe }

func (onevent) Onevent(ron.Event) {}

type onPatch struct{ probe }

func (onPatch) OnPatch(*ron.Batch) {}

type restoree struct{ probe }

func (restoree) Restoree(ron.State) error { return nil }

func TestMethodsThatTheHostCannotCallAreTold(t *testing.T) {
	rontest.New(t)
	for _, c := range []struct {
		service ron.Service
		want    string
	}{
		{&hidden{}, `*ron_test.hidden has Save and Restore, which the host cannot see: add import _ "ron/handover"`},
		{&half{}, "*ron_test.half has Save without Restore; a handover needs both"},
		{&fails{}, "*ron_test.fails has Stop() error; ron wants Stop()"},
		{&hears{}, "*ron_test.hears has OnEvent(string); ron wants OnEvent(ron.Event)"},
		{&saves{}, "*ron_test.saves has Save() (string, error); ron wants Save() (ron.State, error)"},
		{&restores{}, "*ron_test.restores has Restore(uint32, []uint8) error; ron wants Restore(ron.State) error"},
		{&batches{}, "*ron_test.batches has OnBatch(ron.Batch); ron wants OnBatch(*ron.Batch)"},
		{&stpo{}, "*ron_test.stpo has Stpo, which the host does not call; did you mean Stop?"},
		{&onEvnt{}, "*ron_test.onEvnt has OnEvnt, which the host does not call; did you mean OnEvent?"},
		{&onevent{}, "*ron_test.onevent has Onevent, which the host does not call; did you mean OnEvent?"},
		{&onPatch{}, "*ron_test.onPatch has OnPatch, which the host does not call; did you mean OnBatch?"},
		{&restoree{}, "*ron_test.restoree has Restoree, which the host does not call; did you mean Restore?"},
		{nil, "ron.Run: nil is no service"},
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
			}()
			ron.Run(c.service)
		}()
	}
}

type own struct{ probe }

func (own) OnEvent(ron.Event) {}
func (own) Stop()             {}
func (own) Step()             {} // a word of its own
func (own) Stopp()            {} // there is Stop
func (own) Restored() bool    { return true }
func (own) Safe() error       { return nil }

func TestMethodsOfTheAuthorsOwnAreLeftAlone(t *testing.T) {
	rontest.Start(t, &own{})
}

type steps struct{ probe }

func (steps) Step() {}

func TestAWordIsNoSlipOfAnother(t *testing.T) {
	rontest.Start(t, &steps{})
}
