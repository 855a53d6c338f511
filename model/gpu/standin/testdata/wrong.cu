#include "device.h"

// Kernels with one error each; y and x have 64 floats or 128 bf16.
KERNEL(64) void read_beyond(GLOBAL(float) y, GLOBAL(const float) x) { y[TID] = x[TID + 1]; }
KERNEL(64) void read_before(GLOBAL(float) y, GLOBAL(const float) x) { y[TID] = x[TID - 1]; }
KERNEL(64) void far_away(GLOBAL(float) y, GLOBAL(const float) x) { y[TID] = x[(long64)1 << 61 | TID]; }
KERNEL(64) void write_beyond(GLOBAL(float) y, GLOBAL(const float) x) { y[TID * 2] = x[TID]; }
KERNEL(64) void vector_beyond(GLOBAL(float) y, GLOBAL(const float) x) { f4 v = load4(x, TID * 4); y[TID] = v.x; }
KERNEL(64) void unaligned(GLOBAL(float) y, GLOBAL(const float) x) { f4 v = load4(x, 2); y[TID] = v.x; }
KERNEL(64) void unaligned_pair(GLOBAL(bf16) y) { if (TID == 0) store_pair(y, 3, 0); }
KERNEL(64) void never_written(GLOBAL(float) y) { y[TID] += 1; }
KERNEL(64) void null_pointer(GLOBAL(float) y) { y[TID] = 1; }
KERNEL(64) void shared_never_written(GLOBAL(float) y) { SHARED(float, s, 64); y[TID] = s[TID]; }
KERNEL(64) void shared_of_last_block(GLOBAL(float) y) {
  SHARED(float, s, 1);
  if (BLOCK_X == 0 && TID == 0) s[0] = 1;
  SYNC();
  if (TID == 0) y[BLOCK_X] = s[0];
}
KERNEL(64) void shared_beyond(GLOBAL(float) y) { SHARED(float, s, 63); s[TID] = 1; y[TID] = 1; }
KERNEL(64) void shared_unaligned(GLOBAL(float) y) { SHARED(bf16, s, 64); if (TID == 0) store8(s, 4, u4{1, 2, 3, 4}); y[TID] = 1; }
KERNEL(64) void no_sync(GLOBAL(float) y) {
  SHARED(float, s, 64);
  s[TID] = (float)TID;
  y[TID] = s[63 - TID];
}
KERNEL(64) void no_second_sync(GLOBAL(float) y) {
  SHARED(float, s, 64);
  s[TID] = (float)TID;
  SYNC();
  float v = s[63 - TID];
  if (TID == 63) s[63] = v + 100;
  y[TID] = v;
}
KERNEL(64) void two_writers(GLOBAL(float) y) {
  SHARED(float, s, 1);
  s[0] = (float)TID;
  y[TID] = 1;
}
KERNEL(64) void global_no_sync(GLOBAL(float) y) {
  y[TID] = (float)TID;
  float v = y[63 - TID];
  SYNC();
  y[TID] = v;
}
KERNEL(64) void blocks_meet(GLOBAL(float) y) { if (TID == 0) y[0] = (float)BLOCK_X; }
KERNEL(64) void returned(GLOBAL(float) y) {
  if (TID == 40) return;
  SYNC();
  y[TID] = 1;
}
KERNEL(64) void lane_returned(GLOBAL(float) y) {
  if (TID == 5) return;
  y[TID] = warp_sum(1);
}
KERNEL(64) void two_syncs(GLOBAL(float) y) {
  if (TID < 32) {
    SYNC();
  } else {
    SYNC();
  }
  y[TID] = 1;
}
KERNEL(64) void two_shuffles(GLOBAL(float) y) {
  if (TID & 1) y[TID] = shfl(1, 0);
  else y[TID] = shfl_xor(1, 1);
}
KERNEL(64) void sync_and_shuffle(GLOBAL(float) y) {
  if (TID == 3) SYNC();
  y[TID] = shfl(1, 0);
}
KERNEL(64) void too_much_shared(GLOBAL(float) y) {
  SHARED(float, s, 8192);
  SHARED(float, t, 4097);
  s[TID] = 1;
  t[TID] = 1;
  y[TID] = 1;
}
