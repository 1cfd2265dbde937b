package bulk

import (
	"ron"
	"ron/internal/abi"
	"ron/internal/crash"
	"ron/internal/service"
)

//go:wasmexport ron:kernel/bulk@1.0.0#on-batch
func exportOnBatch(names, namesLen, entries, entriesLen, payloads, payloadsLen uint32) uint32 {
	defer crash.Recover()
	texts := make([]string, namesLen)
	for i := range texts {
		texts[i] = abi.At(names + uint32(i)*8).String(0)
	}
	all := abi.Bytes(payloads, payloadsLen)
	messages := make([]ron.Message, entriesLen)
	for i := range messages {
		entry := abi.At(entries + uint32(i)*32)
		from := entry.U32(16)
		to := from + entry.U32(20)
		messages[i] = ron.Message{
			ID:         entry.U64(0),
			Topic:      texts[entry.U32(8)],
			Payload:    all[from:to:to], // so that an append copies it
			Source:     texts[entry.U32(12)],
			Attempt:    entry.U32(24),
			WantsReply: entry.U8(28) != 0,
		}
	}
	abi.Copied()

	batch := ron.NewBatch(messages...)
	service.Current.(ron.BatchHandler).OnBatch(batch)

	var outcomes [][5]uint32
	var keep []any
	for i := range messages {
		reply, err := batch.Outcome(i)
		if err != nil {
			text := abi.Text(err.Error())
			verdict := uint32(1)
			if ron.IsRetry(err) {
				verdict = 0
			}
			outcomes = append(outcomes, [5]uint32{uint32(i), 1, verdict, abi.Address(text), uint32(len(text))})
			keep = append(keep, text)
		} else if bytes, ok := reply.Get(); ok {
			outcomes = append(outcomes, [5]uint32{uint32(i), 0, abi.AddressOf(bytes), uint32(len(bytes))})
			keep = append(keep, bytes)
		}
	}
	return abi.Return(append(keep, outcomes), abi.AddressOf(outcomes), uint32(len(outcomes)))
}
