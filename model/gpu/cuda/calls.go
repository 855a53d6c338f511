package cuda

import "sn3/model/gpu/dl"

// fn is a function of the driver.
type fn struct{ dl.Func }

// call calls it; what is not 0 becomes an *Error.
//
//go:uintptrescapes
func (f *fn) call(d *Driver, args ...uintptr) error {
	if code := Code(int32(f.Call(args...))); code != 0 {
		return d.fail(f.Name, code)
	}
	return nil
}

// calls are the functions of the driver that we use.
type calls struct {
	init, driverGetVersion, deviceGetCount, deviceGet, deviceGetName, deviceTotalMem, deviceGetAttribute, deviceGetPCIBusID, deviceGetUUID  fn
	primaryCtxRetain, primaryCtxRelease, ctxSetCurrent, ctxSynchronize                                                                      fn
	memAlloc, memFree, memGetInfo, memHostAlloc, memFreeHost, memsetAsync, memcpyHtoD, memcpyDtoH, memcpyDtoD                               fn
	streamCreate, streamDestroy, streamSynchronize, streamWaitEvent, eventCreate, eventDestroy, eventRecord, eventSynchronize, eventElapsed fn
	moduleLoad, moduleUnload, moduleGetFunction, funcGetParamInfo, launchKernel, standinPart                                                fn
	beginCapture, endCapture, graphInstantiate, graphLaunch, graphExecDestroy, graphDestroy, getErrorName, getErrorString                   fn
}

// bind finds the functions in the library. funcGetParamInfo came with CUDA 12.4, standinPart is the stand-in's: they may be missing.
func (c *calls) bind(lib uintptr) error {
	for _, s := range []struct {
		to   *fn
		name string
	}{
		{&c.init, "cuInit"}, {&c.driverGetVersion, "cuDriverGetVersion"}, {&c.deviceGetCount, "cuDeviceGetCount"}, {&c.deviceGet, "cuDeviceGet"},
		{&c.deviceGetName, "cuDeviceGetName"}, {&c.deviceTotalMem, "cuDeviceTotalMem_v2"}, {&c.deviceGetAttribute, "cuDeviceGetAttribute"},
		{&c.deviceGetPCIBusID, "cuDeviceGetPCIBusId"}, {&c.deviceGetUUID, "cuDeviceGetUuid"},
		{&c.primaryCtxRetain, "cuDevicePrimaryCtxRetain"}, {&c.primaryCtxRelease, "cuDevicePrimaryCtxRelease_v2"}, {&c.ctxSetCurrent, "cuCtxSetCurrent"},
		{&c.ctxSynchronize, "cuCtxSynchronize"},
		{&c.memAlloc, "cuMemAlloc_v2"}, {&c.memFree, "cuMemFree_v2"}, {&c.memGetInfo, "cuMemGetInfo_v2"}, {&c.memHostAlloc, "cuMemHostAlloc"},
		{&c.memFreeHost, "cuMemFreeHost"}, {&c.memsetAsync, "cuMemsetD8Async"}, {&c.memcpyHtoD, "cuMemcpyHtoDAsync_v2"},
		{&c.memcpyDtoH, "cuMemcpyDtoHAsync_v2"}, {&c.memcpyDtoD, "cuMemcpyDtoDAsync_v2"},
		{&c.streamCreate, "cuStreamCreate"}, {&c.streamDestroy, "cuStreamDestroy_v2"}, {&c.streamSynchronize, "cuStreamSynchronize"},
		{&c.streamWaitEvent, "cuStreamWaitEvent"}, {&c.eventCreate, "cuEventCreate"}, {&c.eventDestroy, "cuEventDestroy_v2"},
		{&c.eventRecord, "cuEventRecord"}, {&c.eventSynchronize, "cuEventSynchronize"}, {&c.eventElapsed, "cuEventElapsedTime"},
		{&c.moduleLoad, "cuModuleLoadDataEx"}, {&c.moduleUnload, "cuModuleUnload"}, {&c.moduleGetFunction, "cuModuleGetFunction"},
		{&c.funcGetParamInfo, "cuFuncGetParamInfo"}, {&c.launchKernel, "cuLaunchKernel"},
		{&c.beginCapture, "cuStreamBeginCapture_v2"}, {&c.endCapture, "cuStreamEndCapture"}, {&c.graphInstantiate, "cuGraphInstantiateWithFlags"},
		{&c.graphLaunch, "cuGraphLaunch"}, {&c.graphExecDestroy, "cuGraphExecDestroy"}, {&c.graphDestroy, "cuGraphDestroy"},
		{&c.getErrorName, "cuGetErrorName"}, {&c.getErrorString, "cuGetErrorString"}, {&c.standinPart, "sn3StandinPart"},
	} {
		f, err := dl.Find(lib, s.name)
		if err != nil && s.to != &c.funcGetParamInfo && s.to != &c.standinPart {
			return err
		}
		s.to.Func = f
	}
	return nil
}
