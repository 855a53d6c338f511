// The driver's functions, as in NVIDIA's cuda.h.
#pragma once

using namespace standin;
#define API extern "C" __attribute__((visibility("default"))) int
#define BEGIN(context)                                                        \
  std::lock_guard<std::recursive_mutex> hold(standin::lock);                  \
  if (int e = begin(__func__, context)) return e;                             \
  if (!inited && strcmp(__func__, "cuInit") && strcmp(__func__, "cuDriverGetVersion") && strncmp(__func__, "cuGetError", 10)) return not_initialized; \
  if (context && !current) return invalid_context

static bool inited;
static thread_local void* current;
static const char primary = 0;

API cuInit(unsigned) { BEGIN(false); if (!settings.devices) return no_device; inited = true; return ok; }
API cuDriverGetVersion(int* v) { BEGIN(false); *v = settings.version; return ok; }
API cuDeviceGetCount(int* n) { BEGIN(false); *n = settings.devices; return ok; }
API cuDeviceGet(int* d, int i) { BEGIN(false); if (i < 0 || i >= settings.devices) return invalid_device; *d = i; return ok; }
API cuDeviceGetName(char* s, int n, int) { BEGIN(false); snprintf(s, n, "stand-in on the CPU"); return ok; }
API cuDeviceTotalMem_v2(size_t* n, int) { BEGIN(false); *n = total_bytes; return ok; }
API cuDeviceGetUuid(char* u, int d) { BEGIN(false); memset(u, 0x51, 16); u[15] = (char)d; return ok; }
API cuDeviceGetPCIBusId(char* s, int n, int d) { BEGIN(false); snprintf(s, n, "0000:%02X:00.0", d + 1); return ok; }
API cuDeviceGetAttribute(int* v, int a, int) {
  BEGIN(false);
  switch (a) {
    case 1: *v = 1024; break;                 // threads in a block
    case 13: *v = 1000000; break;             // clock, kHz
    case 16: *v = settings.sms; break;                   // multiprocessors
    case 32: *v = 0; break;                   // ECC
    case 36: *v = 1000000; break;             // memory clock, kHz
    case 37: *v = 64; break;                  // memory bus, bits
    case 38: *v = 1 << 20; break;             // L2
    case 75: *v = settings.cc / 10; break;
    case 76: *v = settings.cc % 10; break;
    default: return invalid_value;
  }
  return ok;
}
API cuDevicePrimaryCtxRetain(void** c, int d) { BEGIN(false); if (d < 0 || d >= settings.devices) return invalid_device; contexts++; *c = (void*)&primary; return ok; }
API cuDevicePrimaryCtxRelease_v2(int) {
  BEGIN(false);
  if (!contexts) return invalid_context;
  if (contexts == 1) drain_all();
  if (!--contexts) {
    write_report(); // a process may end without destructors
    sticky = ok;
    trouble.clear();
    drop_fibers();
  }
  return ok;
}
API cuCtxSetCurrent(void* c) { BEGIN(false); current = c; return ok; }
API cuCtxSynchronize() { BEGIN(true); if (int e = refuse()) return e; return drain_all(); }

API cuMemAlloc_v2(uintptr_t* p, size_t n) {
  BEGIN(true);
  if (int e = refuse()) return e;
  if (!n) return invalid_value;
  allocations_asked++;
  if (settings.oom && allocations_asked - oom_base == settings.oom) return out_of_memory;
  *p = allocate(n);
  return *p ? ok : out_of_memory;
}
API cuMemFree_v2(uintptr_t p) {
  BEGIN(true);
  if (int e = refuse()) return e;
  if (!p) return ok;
  if (int e = drain_all()) return e; // as the driver does
  if (release(p)) return ok;
  if (span(p, 1, "free")) trouble = "free: the address is not the beginning of an allocation";
  return invalid_value;
}
// sn3StandinPart is not the driver's: see Part. What was enqueued before knows the parts as they were.
API sn3StandinPart(uintptr_t p, size_t n, const char* name) { BEGIN(true); if (int e = drain_all()) return e; return set_part(p, n, name) ? ok : invalid_value; }
API cuMemGetInfo_v2(size_t* free, size_t* total) { BEGIN(true); *free = total_bytes - live_bytes; *total = total_bytes; return ok; }
API cuMemHostAlloc(void** p, size_t n, unsigned) {
  BEGIN(true);
  if (int e = refuse()) return e;
  allocations_asked++;
  if (settings.oom && allocations_asked - oom_base == settings.oom) return out_of_memory;
  *p = n ? aligned_alloc(4096, (n + 4095) & ~4095ull) : nullptr;
  if (!*p) return n ? out_of_memory : invalid_value;
  pinned[(uintptr_t)*p] = n;
  return ok;
}
// Copies that are under way do not hold it: see host_gone.
API cuMemFreeHost(void* p) { BEGIN(true); if (int e = refuse()) return e; if (!pinned.erase((uintptr_t)p)) return invalid_value; free(p); return ok; }

API cuMemcpyHtoD_v2(uintptr_t d, const void* s, size_t n) { BEGIN(true); if (int e = refuse()) return e; if (int e = drain_all()) return e; return copy_in(d, s, n); }
API cuMemcpyDtoH_v2(void* d, uintptr_t s, size_t n) { BEGIN(true); if (int e = refuse()) return e; if (int e = drain_all()) return e; return copy_out(d, s, n); }
API cuMemcpyHtoDAsync_v2(uintptr_t d, const void* s, size_t n, void* q) {
  BEGIN(true);
  if (!may_capture(q, s, n)) return capture_unsupported;
  if (!span(d, n, "copy to the device")) return invalid_value;
  bool pin = is_pinned(s, n);
  if (pin || !settings.late) return issue(q, {[=] { return pin && host_gone(s, n) ? invalid_value : copy_in(d, s, n); }, pin ? (const char*)s : nullptr, nullptr, n});
  auto staged = std::make_shared<std::vector<char>>((const char*)s, (const char*)s + n); // as the driver does: s may go when it returns
  return issue(q, {[=] { return copy_in(d, staged->data(), n); }});
}
API cuMemcpyDtoHAsync_v2(void* d, uintptr_t s, size_t n, void* q) {
  BEGIN(true);
  if (!may_capture(q, d, n)) return capture_unsupported;
  if (!span(s, n, "copy from the device")) return invalid_value;
  if (is_pinned(d, n)) return issue(q, {[=] { return host_gone(d, n) ? invalid_value : copy_out(d, s, n); }, nullptr, (char*)d, n});
  if (int e = issue(q, {[=] { return copy_out(d, s, n); }})) return e; // memory that is not pinned is there when the call returns
  return q ? drain((Stream*)q) : ok;
}
API cuMemcpyDtoDAsync_v2(uintptr_t d, uintptr_t s, size_t n, void* q) {
  BEGIN(true);
  if (!span(d, n, "copy on the device, to") || !span(s, n, "copy on the device, from")) return invalid_value;
  return issue(q, {[=] { return copy_within(d, s, n); }});
}
API cuMemsetD8Async(uintptr_t d, unsigned char v, size_t n, void* q) {
  BEGIN(true);
  if (!span(d, n, "fill")) return invalid_value;
  return issue(q, {[=] { return fill(d, v, n); }});
}

API cuStreamCreate(void** s, unsigned) { BEGIN(true); *s = new Stream{++streams_made, {}, {}, {}}; streams.insert(*s); return ok; }
API cuStreamDestroy_v2(void* s) {
  BEGIN(true);
  if (!streams.count(s)) return invalid_handle;
  if (((Stream*)s)->capture) return refuse();
  int e = drain((Stream*)s);
  streams.erase(s);
  delete (Stream*)s;
  return e;
}
API cuStreamSynchronize(void* s) {
  BEGIN(true);
  if (s && !streams.count(s)) return invalid_handle;
  if (int e = refuse()) return e;
  return s ? drain((Stream*)s) : drain_all();
}
API cuStreamWaitEvent(void* s, void* e, unsigned) {
  BEGIN(true);
  if (!streams.count(s) || !events.count(e)) return invalid_handle;
  return wait_for((Stream*)s, (Event*)e);
}
API cuEventCreate(void** e, unsigned) { BEGIN(true); *e = new Event; events.insert(*e); return ok; }
API cuEventDestroy_v2(void* e) { BEGIN(true); if (!events.erase(e)) return invalid_handle; delete (Event*)e; return ok; }
API cuEventRecord(void* e, void* s) {
  BEGIN(true);
  if (!events.count(e) || (s && !streams.count(s))) return invalid_handle;
  return record((Event*)e, (Stream*)s);
}
API cuEventSynchronize(void* e) {
  BEGIN(true);
  if (!events.count(e)) return invalid_handle;
  if (int r = refuse()) return r;
  Item wait{{}, nullptr, ((Event*)e)->point};
  return wait.wait ? do_item(wait) : ok;
}
API cuEventElapsedTime(float* ms, void* a, void* b) {
  BEGIN(true);
  if (!events.count(a) || !events.count(b)) return invalid_handle;
  auto x = ((Event*)a)->point, y = ((Event*)b)->point;
  if (!x || !y) return invalid_handle;
  if (!x->done || !y->done) return not_ready;
  *ms = std::chrono::duration<float, std::milli>(y->at - x->at).count();
  return ok;
}

API cuModuleLoadDataEx(void** m, const char* image, unsigned n, int* options, void** values) {
  BEGIN(true);
  if (int e = refuse()) return e;
  std::string text = image;
  int e = loads(text);
  if (e) {
    for (unsigned i = 0; i + 1 < n; i++) // 5: the error log, 6: its size
      if (options[i] == 5 && options[i + 1] == 6) snprintf((char*)values[i], (size_t)values[i + 1], "stand-in: no PTX that this device takes");
    return e;
  }
  Module* made = new Module{entries_of(text), {}};
  modules.insert(*m = made);
  return ok;
}
API cuModuleUnload(void* m) {
  BEGIN(true);
  if (int e = refuse()) return e;
  if (int e = drain_all()) return e;
  if (!modules.erase(m)) return invalid_handle;
  for (auto& f : ((Module*)m)->functions) f->unloaded = true;
  delete (Module*)m;
  return ok;
}
API cuModuleGetFunction(void** f, void* m, const char* name) {
  BEGIN(true);
  if (!modules.count(m)) return invalid_handle;
  for (const Kernel& k : table)
    if (!strcmp(k.name, name) && ((Module*)m)->entries.count(name)) {
      auto made = std::make_shared<Function>(Function{&k, false});
      ((Module*)m)->functions.push_back(made);
      functions[*f = made.get()] = made;
      return ok;
    }
  return not_found;
}
API cuFuncGetParamInfo(void* f, size_t i, size_t* offset, size_t* size) {
  BEGIN(true);
  if (!functions.count(f)) return invalid_handle;
  const Kernel* k = functions[f]->kernel;
  if (i >= (size_t)k->count) return invalid_value;
  size_t at = 0, n = 0;
  for (size_t j = 0; j <= i; j++) {
    at += n;
    n = k->kinds[j] == '4' ? 4 : 8;
    at = (at + n - 1) / n * n;
  }
  *offset = at;
  if (size) *size = n;
  return ok;
}
API cuLaunchKernel(void* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void* q, void** args, void** extra) {
  BEGIN(true);
  if (!functions.count(f) || functions[f]->unloaded) return invalid_handle;
  const Kernel* k = functions[f]->kernel;
  if (!gx || !gy || !gz || gx > 0x7FFFFFFF || gy > 65535 || gz > 65535 || shared || extra || !args) return invalid_value;
  if ((int)bx != k->threads || by != 1 || bz != 1) return invalid_value;
  Launch l{functions[f], k, {(int)gx, (int)gy, (int)gz}, {}};
  for (int i = 0; i < k->count; i++) {
    if (!args[i]) return invalid_value;
    memcpy(&l.values[i], args[i], k->kinds[i] == '4' ? 4 : 8);
  }
  return issue(q, {[=] { return run_launch(l); }});
}

API cuStreamBeginCapture_v2(void* s, int mode) {
  BEGIN(true);
  if (mode != 1) return invalid_value; // the thread's own is the only one here
  if (!streams.count(s)) return invalid_handle;
  if (int e = refuse()) return e;
  capturing = std::make_shared<Capture>(Capture{{}, s, false});
  ((Stream*)s)->capture = capturing;
  ((Stream*)s)->front.clear();
  return ok;
}
API cuStreamEndCapture(void* s, void** g) {
  BEGIN(true);
  if (!streams.count(s)) return invalid_handle;
  if (!capturing || capturing->origin != s) return capture_unmatched;
  auto c = std::move(capturing);
  capturing = nullptr;
  for (void* q : streams)
    if (((Stream*)q)->capture == c) ((Stream*)q)->capture = nullptr;
  for (void* e : events)
    if (((Event*)e)->capture == c) ((Event*)e)->capture = nullptr;
  if (c->broken) return capture_invalidated;
  if (!joined(c->graph, ((Stream*)s)->front)) return trouble = "the capture's first stream does not wait for all that others have captured", capture_unjoined;
  *g = new Graph(c->graph);
  graphs.insert(*g);
  return ok;
}
API cuGraphInstantiateWithFlags(void** x, void* g, unsigned long long) {
  BEGIN(true);
  if (!graphs.count(g)) return invalid_handle;
  auto made = std::make_shared<Graph>(*(Graph*)g);
  execs[*x = made.get()] = made;
  return ok;
}
API cuGraphGetNodes(void* g, void*, size_t* n) { BEGIN(true); if (!graphs.count(g)) return invalid_handle; *n = ((Graph*)g)->nodes.size(); return ok; }
API cuGraphLaunch(void* x, void* q) {
  BEGIN(true);
  if (!execs.count(x)) return invalid_handle;
  auto g = std::static_pointer_cast<Graph>(execs[x]);
  return issue(q, {[=] { return replay(*g); }, nullptr, nullptr, 0, g});
}
API cuGraphExecDestroy(void* x) { BEGIN(true); return execs.erase(x) ? ok : invalid_handle; } // what is under way has it
API cuGraphDestroy(void* g) { BEGIN(true); if (!graphs.erase(g)) return invalid_handle; delete (Graph*)g; return ok; }

// The texts of errors. After a fault of the stand-in its own words come first; they are given once.
API cuGetErrorName(int code, const char** s) {
  BEGIN(false);
  static const std::map<int, const char*> names = {
      {1, "CUDA_ERROR_INVALID_VALUE"}, {2, "CUDA_ERROR_OUT_OF_MEMORY"}, {3, "CUDA_ERROR_NOT_INITIALIZED"}, {100, "CUDA_ERROR_NO_DEVICE"},
      {101, "CUDA_ERROR_INVALID_DEVICE"}, {200, "CUDA_ERROR_INVALID_IMAGE"}, {201, "CUDA_ERROR_INVALID_CONTEXT"}, {209, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
      {218, "CUDA_ERROR_INVALID_PTX"}, {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"}, {400, "CUDA_ERROR_INVALID_HANDLE"}, {500, "CUDA_ERROR_NOT_FOUND"},
      {600, "CUDA_ERROR_NOT_READY"}, {700, "CUDA_ERROR_ILLEGAL_ADDRESS"}, {719, "CUDA_ERROR_LAUNCH_FAILED"}, {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"},
      {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"}, {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"}, {902, "CUDA_ERROR_STREAM_CAPTURE_MERGE"},
      {903, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED"}, {904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED"}, {905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION"}, {999, "CUDA_ERROR_UNKNOWN"}};
  auto i = names.find(code);
  if (i == names.end()) return invalid_value;
  *s = i->second;
  return ok;
}
API cuGetErrorString(int code, const char** s) {
  BEGIN(false);
  static std::string text;
  text = trouble.empty() ? "stand-in's error " + std::to_string(code) : trouble;
  if (!sticky) trouble.clear();
  *s = text.c_str();
  return ok;
}
