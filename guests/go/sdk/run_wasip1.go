package ron

import (
	_ "unsafe" // for go:linkname

	"ron/internal/abi"
	"ron/internal/crash"
	"ron/internal/service"
)

func init() {
	useLogger()
	crash.Watch()
}

func run() {}

// The author's main. The runtime does not call that of a library, which is what a
// component is to it.
//
//go:linkname authorsMain main.main
func authorsMain()

//go:wasmexport ron:kernel/lifecycle@1.0.0#start
func exportStart() uint32 {
	defer crash.Recover()
	crash.Started()
	authorsMain()
	if service.Current == nil {
		panic("main returned without ron.Run")
	}
	return abi.ReturnError(service.Current.(Service).Start())
}

//go:wasmexport ron:kernel/lifecycle@1.0.0#on-message
func exportOnMessage(id uint64, topic, topicLen, payload, payloadLen, source, sourceLen, attempt, wantsReply uint32) uint32 {
	defer crash.Recover()
	message := Message{
		ID:         id,
		Topic:      abi.String(topic, topicLen),
		Payload:    abi.Bytes(payload, payloadLen),
		Source:     abi.String(source, sourceLen),
		Attempt:    attempt,
		WantsReply: wantsReply != 0,
	}
	abi.Copied()
	reply, err := service.Current.(Service).OnMessage(message)
	switch {
	case err != nil:
		text := abi.Text(err.Error())
		verdict := uint32(1)
		if IsRetry(err) {
			verdict = 0
		}
		return abi.Return(text, 1, verdict, abi.Address(text), uint32(len(text)))
	case reply.some:
		return abi.Return(reply.bytes, 0, 1, abi.AddressOf(reply.bytes), uint32(len(reply.bytes)))
	default:
		return abi.Return(nil, 0, 0)
	}
}

// The parameters of the event's cases share their places, so what each is depends on
// the first.
//
//go:wasmexport ron:kernel/lifecycle@1.0.0#on-event
func exportOnEvent(which uint32, a uint64, b, c, d, e, f uint32) {
	defer crash.Recover()
	var event Event
	switch which {
	case 0:
		event = HealthChanged{Service: abi.String(uint32(a), b), OK: c != 0}
	case 1:
		event = ConfigUpdated{Version: a}
	case 2:
		event = ServiceCrashed{
			Service: abi.String(uint32(a), b),
			Reason:  CrashReason{Label: abi.String(c, d), Message: abi.String(e, f)},
		}
	case 3:
		event = Shutdown{}
	}
	abi.Copied()
	if handler, ok := service.Current.(EventHandler); ok {
		handler.OnEvent(event)
	}
}

//go:wasmexport ron:kernel/lifecycle@1.0.0#stop
func exportStop() {
	defer crash.Recover()
	if stopper, ok := service.Current.(Stopper); ok {
		stopper.Stop()
	}
}
