// Matrix products C = op(A)·op(B), or C += op(A)·op(B), of bf16 with sums in float32: C is (m,n) with rows ldc apart, k is the
// length of the sums. The forms are those of model/cpu:
//
//   nt  A (m,k) and B (n,k)   forward:  y = x·Wᵀ
//   nn  A (m,k) and B (k,n)   backward: dx = dy·W
//   tn  A (k,m) and B (k,n)   backward: dW = dyᵀ·x
//
// A block makes a square of R×R values of C, R = 128 or 64 (_64: for small C, so that there are enough blocks): grid
// (⌈n/R⌉, ⌈m/R⌉), 2·R threads. C is float32 or bf16 (_bf16); with acc ≠ 0 its values are added to the sum before it is rounded.
// A factor whose leading dimension is a multiple of 8 begins at a multiple of 16 bytes, C of bf16 whose is even at one of 4. Sums go
// along k in one order.
#include "tile.h"

#define GEMM_K 32                // of k at once,
#define GEMM_LD (GEMM_K + 8)     // in rows of shared memory of this length
#define GEMM_TILE(R) (2 * (R) * GEMM_LD)

// A matrix as a factor: rows of C's tile, or columns, by k.
struct gemm_factor { int ld, rows, row, k; };

// gemm_fetch reads this thread's 16 of the R×32 values at (f.row, k): two vectors along k, or (turned: memory is (k,rows)) vectors
// of 8 rows at two neighbouring k.
template <int R, bool turned> DEVICE void gemm_fetch(u4* v, GLOBAL(const bf16) p, const gemm_factor& f, int k) {
  int t = (int)TID, whole = (f.ld & 7) == 0;
  UNROLL for (int i = 0; i < 2; i++) {
    int row = f.row + (turned ? (t >> 4) * 8 : (t >> 2) + i * R / 2);
    int at = k + (turned ? (t & 15) * 2 + i : (t & 3) * 8);
    int left = turned ? (at < f.k ? f.rows - row : 0) : (row < f.rows ? f.k - at : 0);
    v[i] = row8(p, turned ? (long64)at * f.ld + row : (long64)row * f.ld + at, left, whole);
  }
}

// gemm_put writes them to shared memory from base on, (R,32) in both cases.
template <int R, bool turned, class S> DEVICE void gemm_put(S& s, int base, const u4* v) {
  int t = (int)TID;
  if (!turned) {
    UNROLL for (int i = 0; i < 2; i++) store8(s, base + ((t >> 2) + i * R / 2) * GEMM_LD + (t & 3) * 8, v[i]);
    return;
  }
  unsigned x[4] = {v[0].x, v[0].y, v[0].z, v[0].w}, y[4] = {v[1].x, v[1].y, v[1].z, v[1].w};
  int at = base + (t >> 4) * 8 * GEMM_LD + (t & 15) * 2;
  UNROLL for (int j = 0; j < 4; j++) {
    store_pair(s, at + 2 * j * GEMM_LD, (x[j] & 0xFFFFu) | y[j] << 16);
    store_pair(s, at + (2 * j + 1) * GEMM_LD, x[j] >> 16 | (y[j] & 0xFFFF0000u));
  }
}

DEVICE void gemm_store(GLOBAL(float) c, long64 at, int n, float x, float y, int acc) {
  if (n > 0) c[at] = acc ? c[at] + x : x;
  if (n > 1) c[at + 1] = acc ? c[at + 1] + y : y;
}

DEVICE void gemm_store(GLOBAL(bf16) c, long64 at, int n, float x, float y, int acc) {
  if (n > 1 && (at & 1) == 0) {
    unsigned old = acc ? load_pair(c, at) : 0u;
    store_pair(c, at, rounded(acc ? low(old) + x : x, acc ? high(old) + y : y));
    return;
  }
  if (n > 0) c[at] = (bf16)rounded(acc ? wide(c[at]) + x : x, 0);
  if (n > 1) c[at + 1] = (bf16)rounded(acc ? wide(c[at + 1]) + y : y, 0);
}

// gemm_add multiplies what lies in shared memory from base on: a warp makes 16·I×32 of the tile.
template <int I, class S> DEVICE void gemm_add(float (&c)[I][4][4], S& as, S& bs, int base, int row, int col) {
  UNROLL for (int kk = 0; kk < GEMM_K; kk += 16) {
    unsigned a[I][4], b[4][2];
    UNROLL for (int i = 0; i < I; i++) frag_a(a[i], as, GEMM_LD, base / GEMM_LD + row + 16 * i, kk);
    UNROLL for (int j = 0; j < 4; j++) frag_b(b[j], bs, GEMM_LD, base / GEMM_LD + col + 8 * j, kk);
    UNROLL for (int i = 0; i < I; i++)
      UNROLL for (int j = 0; j < 4; j++) mma16816(c[i][j], a[i], b[j]);
  }
}

// gemm_place is a block's tile of C. Blocks that run at the same time, in the order of the grid, take bands of 8 rows of tiles column
// by column, so that they read few rows of A and of B between them.
DEVICE void gemm_place(int* y, int* x) {
  int across = (int)BLOCKS_X, u = (int)BLOCK_Y * across + (int)BLOCK_X, first = u / (8 * across) * 8, left = (int)BLOCKS_Y - first;
  int high = left < 8 ? left : 8, at = u - first * across;
  *y = first + at % high;
  *x = at / high;
}

// gemm_tile is a block's work. Two tiles of each factor lie in shared memory: while one is multiplied, the next is on its way.
template <int R, bool ta, bool tb, class C, class S>
DEVICE void gemm_tile(C c, GLOBAL(const bf16) a, GLOBAL(const bf16) b, S& as, S& bs, int m, int n, int k, int lda, int ldb, int ldc, int acc) {
  const int I = R / 32;                                        // 1. the warps of a block: 2 by R/32, each 16·I×32
  int warp = (int)TID >> 5, row = warp % 2 * 16 * I, col = warp / 2 * 32, down, right;
  gemm_place(&down, &right);
  gemm_factor fa = {lda, m, down * R, k}, fb = {ldb, n, right * R, k};
  int busy = fa.row + row < m && fb.row + col < n;
  float sum[I][4][4] = {};
  u4 va[2], vb[2];
  for (int k0 = -GEMM_K, base = R * GEMM_LD; k0 < k; k0 += GEMM_K) {
    int next = R * GEMM_LD - base, more = k0 + GEMM_K < k;
    if (more) gemm_fetch<R, ta>(va, a, fa, k0 + GEMM_K);       // 2. the next tiles to registers,
    if (more) gemm_fetch<R, !tb>(vb, b, fb, k0 + GEMM_K);
    if (busy && k0 >= 0) gemm_add<I>(sum, as, bs, base, row, col); // 3. while these are multiplied,
    if (more) gemm_put<R, ta>(as, next, va);                   // 4. then to where no warp reads any more
    if (more) gemm_put<R, !tb>(bs, next, vb);
    SYNC();
    base = next;
  }
  if (!busy) return;
  UNROLL for (int i = 0; i < I; i++)                           // 5. sums to C
    UNROLL for (int j = 0; j < 4; j++) {
      int y = fa.row + row + 16 * i + lane_row(), x = fb.row + col + 8 * j + lane_col();
      if (y < m) gemm_store(c, (long64)y * ldc + x, n - x, sum[i][j][0], sum[i][j][1], acc);
      if (y + 8 < m) gemm_store(c, (long64)(y + 8) * ldc + x, n - x, sum[i][j][2], sum[i][j][3], acc);
    }
}

KERNEL(256) void gemm_nt(GLOBAL(float) c, GLOBAL(const bf16) a, GLOBAL(const bf16) b, int m, int n, int k, int lda, int ldb, int ldc, int acc) {
  SHARED(bf16, as, GEMM_TILE(128));
  SHARED(bf16, bs, GEMM_TILE(128));
  gemm_tile<128, false, true>(c, a, b, as, bs, m, n, k, lda, ldb, ldc, acc);
}

KERNEL(256) void gemm_nt_bf16(GLOBAL(bf16) c, GLOBAL(const bf16) a, GLOBAL(const bf16) b, int m, int n, int k, int lda, int ldb, int ldc, int acc) {
  SHARED(bf16, as, GEMM_TILE(128));
  SHARED(bf16, bs, GEMM_TILE(128));
  gemm_tile<128, false, true>(c, a, b, as, bs, m, n, k, lda, ldb, ldc, acc);
}

KERNEL(256) void gemm_nn(GLOBAL(float) c, GLOBAL(const bf16) a, GLOBAL(const bf16) b, int m, int n, int k, int lda, int ldb, int ldc, int acc) {
  SHARED(bf16, as, GEMM_TILE(128));
  SHARED(bf16, bs, GEMM_TILE(128));
  gemm_tile<128, false, false>(c, a, b, as, bs, m, n, k, lda, ldb, ldc, acc);
}

KERNEL(256) void gemm_nn_bf16(GLOBAL(bf16) c, GLOBAL(const bf16) a, GLOBAL(const bf16) b, int m, int n, int k, int lda, int ldb, int ldc, int acc) {
  SHARED(bf16, as, GEMM_TILE(128));
  SHARED(bf16, bs, GEMM_TILE(128));
  gemm_tile<128, false, false>(c, a, b, as, bs, m, n, k, lda, ldb, ldc, acc);
}

KERNEL(256) void gemm_tn(GLOBAL(float) c, GLOBAL(const bf16) a, GLOBAL(const bf16) b, int m, int n, int k, int lda, int ldb, int ldc, int acc) {
  SHARED(bf16, as, GEMM_TILE(128));
  SHARED(bf16, bs, GEMM_TILE(128));
  gemm_tile<128, true, false>(c, a, b, as, bs, m, n, k, lda, ldb, ldc, acc);
}

KERNEL(256) void gemm_tn_bf16(GLOBAL(bf16) c, GLOBAL(const bf16) a, GLOBAL(const bf16) b, int m, int n, int k, int lda, int ldb, int ldc, int acc) {
  SHARED(bf16, as, GEMM_TILE(128));
  SHARED(bf16, bs, GEMM_TILE(128));
  gemm_tile<128, true, false>(c, a, b, as, bs, m, n, k, lda, ldb, ldc, acc);
}

KERNEL(128) void gemm_nt_64(GLOBAL(float) c, GLOBAL(const bf16) a, GLOBAL(const bf16) b, int m, int n, int k, int lda, int ldb, int ldc, int acc) {
  SHARED(bf16, as, GEMM_TILE(64));
  SHARED(bf16, bs, GEMM_TILE(64));
  gemm_tile<64, false, true>(c, a, b, as, bs, m, n, k, lda, ldb, ldc, acc);
}

KERNEL(128) void gemm_nt_bf16_64(GLOBAL(bf16) c, GLOBAL(const bf16) a, GLOBAL(const bf16) b, int m, int n, int k, int lda, int ldb, int ldc, int acc) {
  SHARED(bf16, as, GEMM_TILE(64));
  SHARED(bf16, bs, GEMM_TILE(64));
  gemm_tile<64, false, true>(c, a, b, as, bs, m, n, k, lda, ldb, ldc, acc);
}

KERNEL(128) void gemm_nn_64(GLOBAL(float) c, GLOBAL(const bf16) a, GLOBAL(const bf16) b, int m, int n, int k, int lda, int ldb, int ldc, int acc) {
  SHARED(bf16, as, GEMM_TILE(64));
  SHARED(bf16, bs, GEMM_TILE(64));
  gemm_tile<64, false, false>(c, a, b, as, bs, m, n, k, lda, ldb, ldc, acc);
}

KERNEL(128) void gemm_nn_bf16_64(GLOBAL(bf16) c, GLOBAL(const bf16) a, GLOBAL(const bf16) b, int m, int n, int k, int lda, int ldb, int ldc, int acc) {
  SHARED(bf16, as, GEMM_TILE(64));
  SHARED(bf16, bs, GEMM_TILE(64));
  gemm_tile<64, false, false>(c, a, b, as, bs, m, n, k, lda, ldb, ldc, acc);
}

KERNEL(128) void gemm_tn_64(GLOBAL(float) c, GLOBAL(const bf16) a, GLOBAL(const bf16) b, int m, int n, int k, int lda, int ldb, int ldc, int acc) {
  SHARED(bf16, as, GEMM_TILE(64));
  SHARED(bf16, bs, GEMM_TILE(64));
  gemm_tile<64, true, false>(c, a, b, as, bs, m, n, k, lda, ldb, ldc, acc);
}

KERNEL(128) void gemm_tn_bf16_64(GLOBAL(bf16) c, GLOBAL(const bf16) a, GLOBAL(const bf16) b, int m, int n, int k, int lda, int ldb, int ldc, int acc) {
  SHARED(bf16, as, GEMM_TILE(64));
  SHARED(bf16, bs, GEMM_TILE(64));
  gemm_tile<64, true, false>(c, a, b, as, bs, m, n, k, lda, ldb, ldc, acc);
}

