// RMSNorm (Zhang and Sennrich, arXiv 1910.07467, equation 4): h = x·r·w with r = 1/√(mean x² + ε), as model/kern's RMSNorm and
// RMSBackward. Activations are bfloat16, sums and r float32.
#include "eight.h"

// norm_row makes row BLOCK_X of h from that of x, and keeps 1/rms.
template <class S> DEVICE void norm_row(GLOBAL(bf16) h, GLOBAL(float) r, GLOBAL(const bf16) x, GLOBAL(const float) w, int C, float eps, float sum, S& part) {
  long64 row = (long64)BLOCK_X * C;
  // 2. r = 1/√(Σ x²/C + ε)
  float by = div(1.0f, sqrt_(div(block_sum(sum, part), (float)C) + eps));
  if (TID == 0) r[BLOCK_X] = by;
  // 3. h = x·r·w
  for (int j = 8 * TID; j < C; j += 8 * 256) {
    int n = eight(j, C);
    f8 a = get8(x, row + j, n), b = get8(w, j, n);
    EIGHT(k) a.v[k] = a.v[k] * by * b.v[k];
    put8(h, row + j, n, a);
  }
}

// rmsnorm: grid (N). h (N,C), r (N), x (N,C), w (C).
KERNEL(256) void rmsnorm(GLOBAL(bf16) h, GLOBAL(float) r, GLOBAL(const bf16) x, GLOBAL(const float) w, int C, float eps) {
  SHARED(float, part, 8);
  long64 row = (long64)BLOCK_X * C;
  // 1. Σ x²
  float sum = 0;
  for (int j = 8 * TID; j < C; j += 8 * 256) {
    f8 a = get8(x, row + j, eight(j, C));
    EIGHT(k) sum += a.v[k] * a.v[k];
  }
  norm_row(h, r, x, w, C, eps, sum, part);
}

// rmsnorm_add: grid (N). s = x + y, rounded to bfloat16, and h, r are the norm of s. h, s, x, y (N,C), r (N), w (C); s may be x.
KERNEL(256) void rmsnorm_add(GLOBAL(bf16) h, GLOBAL(float) r, GLOBAL(bf16) s, GLOBAL(const bf16) x, GLOBAL(const bf16) y, GLOBAL(const float) w, int C, float eps) {
  SHARED(float, part, 8);
  long64 row = (long64)BLOCK_X * C;
  // 1. s = x + y and Σ s², of s as it is stored; a thread reads below what it has written itself
  float sum = 0;
  for (int j = 8 * TID; j < C; j += 8 * 256) {
    int n = eight(j, C);
    f8 a = get8(x, row + j, n), b = get8(y, row + j, n);
    EIGHT(k) {
      a.v[k] = wide(bf16_of(a.v[k] + b.v[k]));
      sum += a.v[k] * a.v[k];
    }
    put8(s, row + j, n, a);
  }
  norm_row(h, r, s, w, C, eps, sum, part);
}

// back_rows takes 16 rows of the backward pass, those of block BLOCK_X: with g = dy·w,
//
//	dx += r·(g + x·c), c = −r²·Σ g·x / C;   part = Σ over the rows of dy·x·r
//
// coef is shared memory of 16 values.
template <class Dy, class Dx, class S> DEVICE void back_rows(GLOBAL(Dx) dx, GLOBAL(bf16) copy, GLOBAL(float) part, GLOBAL(const Dy) dy, GLOBAL(const bf16) x, GLOBAL(const float) w, GLOBAL(const float) r, int N, int C, S& coef) {
  int from = 16 * BLOCK_X, rows = N - from < 16 ? N - from : 16;
  // 1. c of every row, one warp a row
  for (int i = TID >> 5; i < rows; i += 8) {
    long64 row = (long64)(from + i) * C;
    float sum = 0, by = r[from + i];
    for (int j = 8 * (TID & 31); j < C; j += 8 * 32) {
      int n = eight(j, C);
      f8 d = get8(dy, row + j, n), a = get8(x, row + j, n), b = get8(w, j, n);
      EIGHT(k) sum += d.v[k] * b.v[k] * a.v[k];
    }
    sum = warp_sum(sum);
    if ((TID & 31) == 0) coef[i] = sum * (-by * by / (float)C);
  }
  SYNC();
  // 2. column by column: dx of every row, and their sum for dw, in order
  for (int j = 8 * TID; j < C; j += 8 * 256) {
    int n = eight(j, C);
    f8 b = get8(w, j, n), sum = {{0, 0, 0, 0, 0, 0, 0, 0}};
    for (int i = 0; i < rows; i++) {
      long64 at = (long64)(from + i) * C + j;
      float by = r[from + i], c = coef[i];
      f8 d = get8(dy, at, n), a = get8(x, at, n), g = get8(dx, at, n);
      EIGHT(k) {
        g.v[k] += by * (d.v[k] * b.v[k] + a.v[k] * c);
        sum.v[k] += d.v[k] * a.v[k] * by;
      }
      put8(dx, at, n, g);
      put8(copy, at, n, g);
    }
    put8(part, (long64)BLOCK_X * C + j, n, sum);
  }
}

// rmsnorm_back: grid (⌈N/16⌉). To dx (N,C) the gradient of x is added, given dy (N,C); copy (N,C) is the new dx, rounded. part
// (⌈N/16⌉,C) are sums over 16 rows of the gradient of w, for sum_rows to join. x (N,C), w (C), r (N).
KERNEL(256) void rmsnorm_back(GLOBAL(float) dx, GLOBAL(bf16) copy, GLOBAL(float) part, GLOBAL(const float) dy, GLOBAL(const bf16) x, GLOBAL(const float) w, GLOBAL(const float) r, int N, int C) {
  SHARED(float, coef, 16);
  back_rows<float, float>(dx, copy, part, dy, x, w, r, N, C, coef);
}

// rmsnorm_back_half is rmsnorm_back with dy in bfloat16.
KERNEL(256) void rmsnorm_back_half(GLOBAL(float) dx, GLOBAL(bf16) copy, GLOBAL(float) part, GLOBAL(const bf16) dy, GLOBAL(const bf16) x, GLOBAL(const float) w, GLOBAL(const float) r, int N, int C) {
  SHARED(float, coef, 16);
  back_rows<bf16, float>(dx, copy, part, dy, x, w, r, N, C, coef);
}

// rmsnorm_back_bf16 is rmsnorm_back with all gradients but part in bfloat16: dx is the rounded one.
KERNEL(256) void rmsnorm_back_bf16(GLOBAL(bf16) dx, GLOBAL(float) part, GLOBAL(const bf16) dy, GLOBAL(const bf16) x, GLOBAL(const float) w, GLOBAL(const float) r, int N, int C) {
  SHARED(float, coef, 16);
  back_rows<bf16, bf16>(dx, dx, part, dy, x, w, r, N, C, coef);
}

// add_rows makes columns of dw, from 32·BLOCK_X on, the sum over the rows of part, or adds it: eight sums of every eighth row, then
// these in order. sums is shared memory of 256 values.
template <class W, class S> DEVICE void add_rows(GLOBAL(W) dw, GLOBAL(const float) part, int R, int C, int acc, S& sums) {
  int j = 32 * BLOCK_X + (TID & 31);
  // 1. one warp, one of the eight sums
  float s = 0;
  if (j < C) for (int i = TID >> 5; i < R; i += 8) s += part[(long64)i * C + j];
  sums[TID] = s;
  SYNC();
  // 2. the first warp joins them
  if (TID >= 32 || j >= C) return;
  f8 sum = get8(dw, j, acc ? 1 : 0);
  for (int k = 0; k < 8; k++) sum.v[0] += sums[32 * k + TID];
  put8(dw, j, 1, sum);
}

// sum_rows: grid (⌈C/32⌉). dw (C) = Σ over the rows of part (R,C), or is added to it if acc is not 0.
KERNEL(256) void sum_rows(GLOBAL(float) dw, GLOBAL(const float) part, int R, int C, int acc) {
  SHARED(float, sums, 256);
  add_rows(dw, part, R, C, acc, sums);
}

// sum_rows_bf16 is sum_rows to gradients in bfloat16; a sum is rounded once.
KERNEL(256) void sum_rows_bf16(GLOBAL(bf16) dw, GLOBAL(const float) part, int R, int C, int acc) {
  SHARED(float, sums, 256);
  add_rows(dw, part, R, C, acc, sums);
}
