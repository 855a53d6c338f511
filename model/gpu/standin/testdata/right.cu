#include "device.h"

// y is x with each run of 64 in reverse, through shared memory. Grid: n / 64.
KERNEL(64) void reverse(GLOBAL(int) y, GLOBAL(const int) x) {
  SHARED(int, s, 64);
  s[TID] = x[BLOCK_X * 64 + TID];
  SYNC();
  y[BLOCK_X * 64 + TID] = s[63 - TID];
}

// y[b] is the sum of 96 values, warps' sums joined by thread 0 from shared memory. Grid: any.
KERNEL(96) void total(GLOBAL(float) y, GLOBAL(const float) x) {
  SHARED(float, part, 3);
  float v = warp_sum(x[BLOCK_X * 96 + TID]);
  if ((TID & 31) == 0) part[TID >> 5] = v;
  SYNC();
  if (TID == 0) y[BLOCK_X] = part[0] + part[1] + part[2];
}

// Every collective once: y (32,5) is xor, idx, xor of unsigned, idx of unsigned, votes of odd lanes.
KERNEL(32) void collectives(GLOBAL(unsigned) y) {
  y[TID * 5] = (unsigned)shfl_xor((float)TID, 3);
  y[TID * 5 + 1] = (unsigned)shfl((float)TID, 7);
  y[TID * 5 + 2] = shfl_xor_u(TID, 16);
  y[TID * 5 + 3] = shfl_u(TID, (TID + 1) & 31);
  y[TID * 5 + 4] = ballot_of(TID & 1);
}

// C (16,8) = C + A (16,16) · B (16,8), bf16 in, as the PTX ISA lays them out.
KERNEL(32) void product(GLOBAL(float) c, GLOBAL(const bf16) a, GLOBAL(const bf16) b) {
  int g = TID >> 2, q = (TID & 3) * 2;
  unsigned ra[4], rb[2];
  float rc[4] = {c[g * 8 + q], c[g * 8 + q + 1], c[(g + 8) * 8 + q], c[(g + 8) * 8 + q + 1]};
  for (int i = 0; i < 4; i++) ra[i] = load_pair(a, (g + (i & 1) * 8) * 16 + q + (i >> 1) * 8);
  for (int i = 0; i < 2; i++) rb[i] = (unsigned)b[(q + i * 8) * 8 + g] | (unsigned)b[(q + i * 8 + 1) * 8 + g] << 16;
  mma16816(rc, ra, rb);
  for (int i = 0; i < 4; i++) c[(g + (i >> 1) * 8) * 8 + q + (i & 1)] = rc[i];
}

// All blocks write the same: no race.
KERNEL(32) void agree(GLOBAL(int) y) { y[0] = 7; }

// Which block comes last? Bytes are not checked for races, so that the order of blocks can be seen.
KERNEL(32) void last(GLOBAL(unsigned char) y) { if (TID == 0) y[0] = (unsigned char)BLOCK_X; }

// Which warp comes last?
KERNEL(1024) void last_warp(GLOBAL(unsigned char) y) { y[0] = (unsigned char)(TID >> 5); }

// Every type of parameter.
KERNEL(32) void parameters(GLOBAL(ulong64) y, int a, unsigned b, float c, long64 d, ulong64 e) {
  if (TID) return;
  y[0] = (ulong64)(long64)a;
  y[1] = b;
  y[2] = bits(c);
  y[3] = (ulong64)d;
  y[4] = e;
}
