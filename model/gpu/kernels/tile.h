// What the kernels with matrix products share: rows of bf16 from global to shared memory, and from there to the lanes of a warp in
// the layout of PTX's mma.m16n8k16. S is an array in shared memory; its rows lie ld values apart, and with ld = 8 modulo 16 no two
// lanes meet in a bank.
#pragma once
#include "device.h"

// rounded is pair_of by the card's own instruction, but which NaN a NaN becomes.
#if defined(STANDIN)
DEVICE unsigned rounded(float lo, float hi) { return pair_of(lo, hi); }
#else
DEVICE unsigned rounded(float lo, float hi) { unsigned y; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(hi), "f"(lo)); return y; }
#endif

DEVICE int lane_row() { return (int)(TID & 31) >> 2; }      // of a tile's 16×8 values a lane has those of this row and the one 8 below,
DEVICE int lane_col() { return (int)(TID & 3) * 2; }        // in this column and the next

// a: rows row … row+15, columns k … k+15 of s.
template <class S> DEVICE void frag_a(unsigned* a, S& s, int ld, int row, int k) {
  int at = (row + lane_row()) * ld + k + lane_col();
  a[0] = load_pair(s, at);
  a[1] = load_pair(s, at + 8 * ld);
  a[2] = load_pair(s, at + 8);
  a[3] = load_pair(s, at + 8 * ld + 8);
}

// b: 16×8 of which s holds the transpose, rows col … col+7, columns k … k+15.
template <class S> DEVICE void frag_b(unsigned* b, S& s, int ld, int col, int k) {
  int at = (col + lane_row()) * ld + k + lane_col();
  b[0] = load_pair(s, at);
  b[1] = load_pair(s, at + 8);
}

// b0, b1: rows k … k+15, and of the columns col … col+15 of s the even ones and the odd ones: both halves of a word are of use.
// The sums over b0 and b1 are then of columns 2·lane_col() … 2·lane_col()+3, taken in turns.
template <class S> DEVICE void frag_b_rows(unsigned* b0, unsigned* b1, S& s, int ld, int k, int col) {
  int at = (k + lane_col()) * ld + col + 2 * lane_row();
  UNROLL for (int i = 0; i < 2; i++) {
    unsigned x = load_pair(s, at + 8 * i * ld), y = load_pair(s, at + 8 * i * ld + ld);
    b0[i] = (x & 0xFFFFu) | y << 16;
    b1[i] = x >> 16 | (y & 0xFFFF0000u);
  }
}

// row8 is the values i … i+7 of p, those from n on zero and not read; whole says that i is a multiple of 8 if n is at least 8.
DEVICE u4 row8(GLOBAL(const bf16) p, long64 i, int n, int whole) {
  if (whole && n >= 8) return load8(p, i);
  u4 v = {0, 0, 0, 0};
  ROLLED for (int j = 7; j >= 0; j--) { // the 16 bytes move up, one more comes in at their lower end
    v.w = v.w << 16 | v.z >> 16;
    v.z = v.z << 16 | v.y >> 16;
    v.y = v.y << 16 | v.x >> 16;
    v.x = v.x << 16 | (j < n ? (unsigned)p[i + j] : 0u);
  }
  return v;
}
