// What a judge does to its parameters (model/cpu Judge): θ − scale·delta at the positions that a delta names, and back, bit for bit.
//
// A chunk lies in a vector as rows: value x of chunk c is at place[c,0] + (x/place[c,1])·place[c,2] + x%place[c,1], that is offset,
// columns, stride of model.Chunk; in chunk order offset is its first value and there is one row. Masters and the bf16 copies that are
// multiplied may lie differently, so each has its places.
#include "device.h"

// place_of is where value x of this block's chunk is.
DEVICE long64 place_of(GLOBAL(const long64) place, int x) {
  long64 c = 3 * (long64)BLOCK_X;
  int cols = (int)place[c + 1];
  return place[c] + x / cols * place[c + 2] + x % cols;
}

// delta_apply: θ <- θ − scale·val, products rounded first, and what was there goes to old; the copies of these positions are made again.
//   theta: float32 of all parameters, at place (C,3); copies: bf16, at copy_place (C,3); old: as val
//   at (C+1): of the chunks in idx, val and old; idx: below the chunk's length, no index twice in a chunk; val
// Grid: C.
KERNEL(256) void delta_apply(GLOBAL(float) theta, GLOBAL(bf16) copies, GLOBAL(float) old, GLOBAL(const long64) place,
                             GLOBAL(const long64) copy_place, GLOBAL(const long64) at, GLOBAL(const bf16) idx, GLOBAL(const float) val,
                             float scale) {
  for (long64 j = at[BLOCK_X] + TID; j < at[BLOCK_X + 1]; j += 256) {
    int x = idx[j];
    long64 p = place_of(place, x);
    float before = theta[p], y = sub(before, mul(scale, val[j]));
    old[j] = before;
    theta[p] = y;
    copies[place_of(copy_place, x)] = bf16_of(y);
  }
}

// delta_undo puts back what delta_apply found. Arguments as there.
// Grid: C.
KERNEL(256) void delta_undo(GLOBAL(float) theta, GLOBAL(bf16) copies, GLOBAL(const float) old, GLOBAL(const long64) place,
                            GLOBAL(const long64) copy_place, GLOBAL(const long64) at, GLOBAL(const bf16) idx) {
  for (long64 j = at[BLOCK_X] + TID; j < at[BLOCK_X + 1]; j += 256) {
    int x = idx[j];
    float y = old[j];
    theta[place_of(place, x)] = y;
    copies[place_of(copy_place, x)] = bf16_of(y);
  }
}

// round_chunks makes all copies: what is at place (C,3) of theta, rounded, to copy_place (C,3).
// Grid: C, of len (C) values.
KERNEL(256) void round_chunks(GLOBAL(bf16) copies, GLOBAL(const float) theta, GLOBAL(const long64) place, GLOBAL(const long64) copy_place,
                              GLOBAL(const int) len) {
  for (int x = (int)TID; x < len[BLOCK_X]; x += 256) copies[place_of(copy_place, x)] = bf16_of(theta[place_of(place, x)]);
}

// move_chunks brings chunks from one order to another, as model.Layout's Gather and Scatter do: src at from (C,3), dst at to (C,3).
// Grid: C, of len (C) values.
KERNEL(256) void move_chunks(GLOBAL(float) dst, GLOBAL(const float) src, GLOBAL(const long64) to, GLOBAL(const long64) from,
                             GLOBAL(const int) len) {
  for (int x = (int)TID; x < len[BLOCK_X]; x += 256) dst[place_of(to, x)] = src[place_of(from, x)];
}
