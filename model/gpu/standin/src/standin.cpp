// A stand-in for libcuda.so.1: the calls of the driver API that package cuda makes, kernels run on the CPU (block.h), streams and
// graphs (streams.h); and, in the same library, for cuBLASLt (lt.h). all.cu and table.inc come from package kernels.
#define STANDIN
#include "device.h"
#include "control.h"
#include "all.cu"

namespace standin {
template <class T>
static T arg(void* p) { T v; memcpy((void*)&v, p, sizeof v); return v; }

struct Kernel {
  const char* name;
  int threads, count;
  const char* kinds; // a letter for each parameter: p pointer, 4 or 8 bytes of a scalar
  void (*body)(void**);
};
static const Kernel table[] = {
#include "table.inc"
};
}  // namespace standin

#include "launch.h"
#include "driver.h"
#include "lt.h"
