package handover

import (
	"ron"
	"ron/internal/abi"
	"ron/internal/crash"
	"ron/internal/service"
)

//go:wasmexport ron:kernel/handover@1.0.0#save
func exportSave() uint32 {
	defer crash.Recover()
	state, err := service.Current.(ron.Handover).Save()
	if err != nil {
		return abi.ReturnError(err)
	}
	return abi.Return(state.Bytes, 0, state.Schema, abi.AddressOf(state.Bytes), uint32(len(state.Bytes)))
}

//go:wasmexport ron:kernel/handover@1.0.0#restore
func exportRestore(schema, bytes, length uint32) uint32 {
	defer crash.Recover()
	state := ron.State{Schema: schema, Bytes: abi.Bytes(bytes, length)}
	abi.Copied()
	return abi.ReturnError(service.Current.(ron.Handover).Restore(state))
}
