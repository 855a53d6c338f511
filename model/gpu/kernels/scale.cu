#include "device.h"

// scale: y[i] = a·x[i] for i < n, float32; the kernel that the tests of the machinery use. Grid: (n + 255) / 256.
KERNEL(256) void scale(GLOBAL(float) y, GLOBAL(const float) x, long64 n, float a) {
  long64 i = (long64)BLOCK_X * 256 + TID;
  if (i < n) y[i] = mul(a, x[i]);
}
