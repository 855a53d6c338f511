// Rows of values, eight at a time: 16 bytes of bfloat16, twice 16 of float32. Buffers begin at multiples of 16 bytes; what lies at
// another place within them, and the rest of a row, goes one by one.
#pragma once
#include "device.h"

#define EIGHT(k) UNROLL for (int k = 0; k < 8; k++)

struct f8 { float v[8]; };

// eight is how many of the values from i on there are below n, at most 8.
DEVICE int eight(long64 i, long64 n) { return n - i < 8 ? (int)(n - i) : 8; }

// get8 reads n <= 8 values from element i on; those beyond are 0.
DEVICE f8 get8(GLOBAL(const float) p, long64 i, int n) {
  f8 a;
  if (n == 8 && (i & 7) == 0) {
    f4 x = load4(p, i), y = load4(p, i + 4);
    a.v[0] = x.x; a.v[1] = x.y; a.v[2] = x.z; a.v[3] = x.w;
    a.v[4] = y.x; a.v[5] = y.y; a.v[6] = y.z; a.v[7] = y.w;
    return a;
  }
  EIGHT(k) a.v[k] = k < n ? p[i + k] : 0.0f;
  return a;
}
DEVICE f8 get8(GLOBAL(const bf16) p, long64 i, int n) {
  f8 a;
  if (n == 8 && (i & 7) == 0) {
    u4 x = load8(p, i);
    a.v[0] = low(x.x); a.v[1] = high(x.x); a.v[2] = low(x.y); a.v[3] = high(x.y);
    a.v[4] = low(x.z); a.v[5] = high(x.z); a.v[6] = low(x.w); a.v[7] = high(x.w);
    return a;
  }
  EIGHT(k) a.v[k] = k < n ? wide(p[i + k]) : 0.0f;
  return a;
}

// put8 writes the first n <= 8 values of a from element i on, rounded where that is bfloat16.
DEVICE void put8(GLOBAL(float) p, long64 i, int n, f8 a) {
  if (n == 8 && (i & 7) == 0) {
    f4 x = {a.v[0], a.v[1], a.v[2], a.v[3]}, y = {a.v[4], a.v[5], a.v[6], a.v[7]};
    store4(p, i, x);
    store4(p, i + 4, y);
    return;
  }
  EIGHT(k) if (k < n) p[i + k] = a.v[k];
}
DEVICE void put8(GLOBAL(bf16) p, long64 i, int n, f8 a) {
  if (n == 8 && (i & 7) == 0) {
    u4 x = {pair_of(a.v[0], a.v[1]), pair_of(a.v[2], a.v[3]), pair_of(a.v[4], a.v[5]), pair_of(a.v[6], a.v[7])};
    store8(p, i, x);
    return;
  }
  EIGHT(k) if (k < n) p[i + k] = bf16_of(a.v[k]);
}

// block_sum and block_max join what the 256 threads of a block have, in an order that is always the same; all get the result. part
// is shared memory of 8 values, for this one call. A NaN is in every sum; block_max may pass it over.
template <class S> DEVICE float block_sum(float v, S& part) {
  v = warp_sum(v);
  if ((TID & 31) == 0) part[TID >> 5] = v;
  SYNC();
  float s = part[0];
  for (int k = 1; k < 8; k++) s += part[k];
  return s;
}
template <class S> DEVICE float block_max(float v, S& part) {
  v = warp_max(v);
  if ((TID & 31) == 0) part[TID >> 5] = v;
  SYNC();
  float s = part[0];
  for (int k = 1; k < 8; k++) s = part[k] > s ? part[k] : s;
  return s;
}
