// Causal attention that never holds a T×T matrix (Dao, FlashAttention-2, arXiv 2307.08691, algorithms 1 and 2; running maximum and
// sum: Milakov & Gimelshein, arXiv 1805.02867): y = softmax(q·kᵀ/√hd)·v per head, query head h with key/value head h/(heads/kv).
//
//   qkv     (B,T,S)      bf16   rows stride apart: heads of queries, kv heads of keys, kv heads of values, of hd each, rotated
//   y, dy   (B,T,H·hd)   bf16   output and its gradient, rows H·hd apart
//   lse     (B,H,T)      float  log Σ exp of a row's scaled scores
//   delta   (B,H,T)      float  Σ dy·y of a row
//   dqkv    (B,T,S)      bf16   the gradient of qkv, rows as qkv's
//
// A kernel serves heads up to its width D, 32, 64 or 128, and pads them with zeros. T is any. If hd and stride are multiples of 8,
// qkv and dy begin at multiples of 16 bytes; if they are even, all begin at multiples of 4. Products round their factors p and ds to
// bf16. Nothing is added up in an order that could differ: a block owns what it writes.
//
// A key behind the diagonal is no number: its scores are never looked at, and where a product meets its row with a weight of zero,
// what is not finite in it is replaced (seen_mma).
#include "tile.h"

#define LOG2E 1.44269504f
#define LN2 0.69314718f
#define ATTN_ROWS 64 // queries of a block of 4 warps, 16 a warp; in attention_keys keys

// What a block works on.
struct attn { int T, heads, kv, hd, stride; };

// attn_scale is what scores are multiplied with.
DEVICE float attn_scale(const attn& z) { return div(1.0f, sqrt_((float)z.hd)); }

// attn_rows brings count rows of hd values to shared memory, (count,D) from row base on, zero beyond the width and beyond T.
template <int D, class S> DEVICE void attn_rows(S& s, int base, int count, GLOBAL(const bf16) p, long64 at, int row, const attn& z, int ld) {
  int whole = (z.hd & 7) == 0 && (ld & 7) == 0;
  for (int u = (int)TID; u < count * (D / 8); u += 128) {
    int r = u / (D / 8), d = u % (D / 8) * 8;
    store8(s, (base + r) * (D + 8) + d, row8(p, at + (long64)(row + r) * ld + d, row + r < z.T ? z.hd - d : 0, whole));
  }
}

// attn_side is 16 rows of s as factors on the left.
template <int D, class S> DEVICE void attn_side(unsigned (&a)[D / 16][4], S& s, int row) {
  UNROLL for (int i = 0; i < D / 16; i++) frag_a(a[i], s, D + 8, row, 16 * i);
}

// attn_dots are the products of the rows of a and 8·N rows of s: 16×8·N.
template <int D, int N, class S> DEVICE void attn_dots(float (&c)[N][4], unsigned (&a)[D / 16][4], S& s, int row) {
  UNROLL for (int j = 0; j < N; j++) {
    unsigned b[2];
    c[j][0] = c[j][1] = c[j][2] = c[j][3] = 0;
    UNROLL for (int i = 0; i < D / 16; i++) {
      frag_b(b, s, D + 8, row + 8 * j, 16 * i);
      mma16816(c[j], a[i], b);
    }
  }
}

// attn_factor makes 16×8 and 16×8 sums, side by side, a factor on the left.
DEVICE void attn_factor(unsigned* a, float* c0, float* c1) {
  a[0] = rounded(c0[0], c0[1]);
  a[1] = rounded(c0[2], c0[3]);
  a[2] = rounded(c1[0], c1[1]);
  a[3] = rounded(c1[2], c1[3]);
}

// endless has a bit for every half of a pair that is no finite number.
DEVICE unsigned endless(unsigned v) { return ((v & 0x7F80u) == 0x7F80u ? 0xFFFFu : 0u) | ((v & 0x7F800000u) == 0x7F800000u ? 0xFFFF0000u : 0u); }

// seen_mma is mma16816 for the step on the diagonal: a is zero where row r does not see row k of b, k > r, or with up k < r. What is
// not finite in b reaches only those who see it.
DEVICE void seen_mma(float* c, const unsigned* a, const unsigned* b, int up) {
  unsigned e[2] = {endless(b[0]), endless(b[1])}, fine[2] = {b[0] & ~e[0], b[1] & ~e[1]};
  mma16816(c, a, fine);
  if (!ballot_of((e[0] | e[1]) != 0)) return;
  unsigned one[2] = {e[0] & 0x3F803F80u, e[1] & 0x3F803F80u}, seen[4];
  float n[4] = {0, 0, 0, 0};
  UNROLL for (int i = 0; i < 4; i++) {
    int d = lane_row() + i % 2 * 8 - lane_col() - i / 2 * 8; // r − k, of the next k one less
    seen[i] = up ? (d <= 0 ? 0x3F80u : 0u) | (d <= 1 ? 0x3F800000u : 0u) : (d >= 0 ? 0x3F80u : 0u) | (d >= 1 ? 0x3F800000u : 0u);
  }
  mma16816(n, seen, one);
  UNROLL for (int i = 0; i < 4; i++) c[i] = n[i] > 0 ? float_of(0x7FC00000u) : c[i];
}

// attn_gather adds p·rows: p are 16×16·N weights, rows those of s. Row r of p sees rows up to ahead+r, a multiple of 16, or with
// up those from there on. One step of 16 rows may lie on the diagonal. Columns are those of frag_b_rows.
template <int D, int N, class S> DEVICE void attn_gather(float (&o)[D / 8][4], float (&p)[2 * N][4], S& s, int ahead, int up) {
  unsigned a[4], on[4] = {0, 0, 0, 0}, b[2][2];
  UNROLL for (int i = 0; i < N; i++) {
    attn_factor(a, p[2 * i], p[2 * i + 1]);
    if (ahead == 16 * i) {
      UNROLL for (int r = 0; r < 4; r++) on[r] = a[r];
    }
    if (up ? ahead >= 16 * i : ahead <= 16 * i) continue; // on the diagonal, or seen by nobody
    UNROLL for (int j = 0; j < D / 8; j += 2) {
      frag_b_rows(b[0], b[1], s, D + 8, 16 * i, 8 * j);
      mma16816(o[j], a, b[0]);
      mma16816(o[j + 1], a, b[1]);
    }
  }
  if (ahead < 0 || ahead >= 16 * N) return;
  UNROLL for (int j = 0; j < D / 8; j += 2) {
    frag_b_rows(b[0], b[1], s, D + 8, ahead, 8 * j);
    seen_mma(o[j], on, b[0], up);
    seen_mma(o[j + 1], on, b[1], up);
  }
}

// attn_put writes 16 rows of what attn_gather summed, those below T, each times its factor.
template <int D> DEVICE void attn_put(GLOBAL(bf16) p, long64 at, int ld, int row, const attn& z, float (&c)[D / 8][4], float f0, float f1) {
  int pairs = ((at | ld | z.hd) & 1) == 0;
  UNROLL for (int j = 0; j < D / 8; j += 2)
    UNROLL for (int i = 0; i < 4; i++) {
      int r = row + lane_row() + i / 2 * 8, d = 8 * j + 2 * lane_col() + i % 2 * 2;
      unsigned v = rounded(c[j][i] * (i < 2 ? f0 : f1), c[j + 1][i] * (i < 2 ? f0 : f1));
      long64 to = at + (long64)r * ld + d;
      if (r >= z.T || d >= z.hd) continue;
      if (pairs) {
        store_pair(p, to, v);
        continue;
      }
      p[to] = (bf16)v;
      if (d + 1 < z.hd) p[to + 1] = (bf16)(v >> 16);
    }
}

// over the four lanes that hold a row
DEVICE float quad_sum(float v) { v += shfl_xor(v, 1); return v + shfl_xor(v, 2); }
DEVICE float quad_max(float v) {
  for (int m = 1; m < 4; m <<= 1) { float o = shfl_xor(v, m); v = o > v ? o : v; }
  return v;
}

// attn_softmax makes scores c (base 2) of two rows weights exp2(c − maximum so far) and brings maximum m and this lane's sum l up to
// date; it returns what the sums before are to be multiplied with.
DEVICE void attn_softmax(float (&c)[8][4], float* m, float* l, float* f) {
  UNROLL for (int r = 0; r < 2; r++) {
    float top = m[r], sum = 0;
    UNROLL for (int j = 0; j < 8; j++)
      UNROLL for (int i = 2 * r; i < 2 * r + 2; i++) top = c[j][i] > top ? c[j][i] : top;
    top = quad_max(top);
    UNROLL for (int j = 0; j < 8; j++)
      UNROLL for (int i = 2 * r; i < 2 * r + 2; i++) sum += c[j][i] = exp2_(c[j][i] - top);
    f[r] = exp2_(m[r] - top);
    l[r] = l[r] * f[r] + sum;
    m[r] = top;
  }
}

template <int D, class S> DEVICE void attn_forward_block(GLOBAL(bf16) y, GLOBAL(float) lse, GLOBAL(const bf16) qkv, S& ks, S& vs, const attn& z) {
  int q0 = (int)(BLOCKS_X - 1 - BLOCK_X) * ATTN_ROWS, h = BLOCK_Y, b = BLOCK_Z, g = h / (z.heads / z.kv); // the longest rows begin first
  int warp = (int)TID >> 5, row = q0 + 16 * warp;
  long64 at = (long64)b * z.T * z.stride, kat = at + (z.heads + g) * z.hd, vat = kat + z.kv * z.hd;
  unsigned q[D / 16][4];
  float o[D / 8][4] = {}, m[2] = {float_of(0xFF800000u), float_of(0xFF800000u)}, l[2] = {0, 0}, f[2], scale = attn_scale(z) * LOG2E;
  attn_rows<D>(ks, 0, ATTN_ROWS, qkv, at + h * z.hd, q0, z, z.stride);         // 1. queries to registers
  SYNC();
  attn_side<D>(q, ks, 16 * warp);
  SYNC();
  for (int k0 = 0; k0 <= q0; k0 += 64) {
    float s[8][4];
    attn_rows<D>(ks, 0, 64, qkv, kat, k0, z, z.stride);                        // 2. a block of keys and values
    attn_rows<D>(vs, 0, 64, qkv, vat, k0, z, z.stride);
    SYNC();
    attn_dots<D>(s, q, ks, 0);                                                 // 3. s = q·kᵀ/√hd, −∞ behind the diagonal
    UNROLL for (int j = 0; j < 8; j++)
      UNROLL for (int i = 0; i < 4; i++)
        s[j][i] = k0 + 8 * j + lane_col() + i % 2 <= row + lane_row() + i / 2 * 8 ? s[j][i] * scale : float_of(0xFF800000u);
    attn_softmax(s, m, l, f);                                                  // 4. p = exp(s − m)
    UNROLL for (int j = 0; j < D / 8; j++)
      UNROLL for (int i = 0; i < 4; i++) o[j][i] *= f[i / 2];
    attn_gather<D, 4>(o, s, vs, row - k0, 0);                               // 5. o = o·exp(m' − m) + p·v
    SYNC();
  }
  l[0] = quad_sum(l[0]), l[1] = quad_sum(l[1]);                                // 6. y = o/l, lse = m + log l
  attn_put<D>(y, ((long64)b * z.T * z.heads + h) * z.hd, z.heads * z.hd, row, z, o, div(1.0f, l[0]), div(1.0f, l[1]));
  for (int r = 0; r < 2; r++) {
    int t = row + lane_row() + 8 * r;
    if (lane_col() == 0 && t < z.T) lse[((long64)b * z.heads + h) * z.T + t] = (m[r] + log2_(l[r])) * LN2;
  }
}

// attn_grads makes weights of scores s, and of d, the gradients of weights, those of scores: p = exp(s/√hd − lse) and
// ds = p·(d − delta)/√hd, zero where the row's position does not see the column's; query and key are those of c[0][0].
template <int N> DEVICE void attn_grads(float (&s)[N][4], float (&d)[N][4], GLOBAL(const float) lse, GLOBAL(const float) delta, long64 at,
                                          int query, int key, int turned, const attn& z) {
  float scale = attn_scale(z);
  UNROLL for (int j = 0; j < N; j++)
    UNROLL for (int i = 0; i < 4; i++) {
      int down = i / 2 * 8, right = 8 * j + i % 2;
      int t = query + (turned ? right : down), k = key + (turned ? down : right);
      int seen = k <= t && t < z.T;
      float p = seen ? exp2_((s[j][i] * scale - lse[at + t]) * LOG2E) : 0.0f;
      d[j][i] = seen ? p * (d[j][i] - delta[at + t]) * scale : 0.0f;
      s[j][i] = p;
    }
}

// A block's keys and values get what all queries of the group's heads give them, head by head, block by block.
template <int D, int Q, class S, class S2>
DEVICE void attn_keys_block(GLOBAL(bf16) dqkv, GLOBAL(const bf16) qkv, GLOBAL(const bf16) dy, GLOBAL(const float) lse,
                            GLOBAL(const float) delta, S& ks, S& vs, S2& qs, S2& ds, const attn& z) {
  int k0 = (int)BLOCK_X * ATTN_ROWS, g = BLOCK_Y, b = BLOCK_Z, per = z.heads / z.kv, warp = (int)TID >> 5, row = k0 + 16 * warp;
  long64 at = (long64)b * z.T * z.stride, kat = at + (z.heads + g) * z.hd, vat = kat + z.kv * z.hd;
  float dk[D / 8][4] = {}, dv[D / 8][4] = {};
  attn_rows<D>(ks, 0, ATTN_ROWS, qkv, kat, k0, z, z.stride);                   // 1. keys and values stay
  attn_rows<D>(vs, 0, ATTN_ROWS, qkv, vat, k0, z, z.stride);
  for (int h = g * per; h < (g + 1) * per; h++)
    for (int q0 = k0; q0 < z.T; q0 += Q) {
      unsigned a[D / 16][4];
      float s[Q / 8][4], d[Q / 8][4];
      SYNC();
      attn_rows<D>(qs, 0, Q, qkv, at + h * z.hd, q0, z, z.stride);             // 2. a block of queries and gradients
      attn_rows<D>(ds, 0, Q, dy, ((long64)b * z.T * z.heads + h) * z.hd, q0, z, z.heads * z.hd);
      SYNC();
      attn_side<D>(a, ks, 16 * warp);                                          // 3. s = k·qᵀ, d = v·doᵀ
      attn_dots<D>(s, a, qs, 0);
      attn_side<D>(a, vs, 16 * warp);
      attn_dots<D>(d, a, ds, 0);
      attn_grads(s, d, lse, delta, ((long64)b * z.heads + h) * z.T, q0 + lane_col(), row + lane_row(), 1, z); // 4. p, ds
      attn_gather<D, Q / 16>(dv, s, ds, row - q0, 1);                       // 5. dv += p·do, dk += ds·q
      attn_gather<D, Q / 16>(dk, d, qs, row - q0, 1);
    }
  attn_put<D>(dqkv, kat, z.stride, row, z, dk, 1, 1);
  attn_put<D>(dqkv, vat, z.stride, row, z, dv, 1, 1);
}

// A block's queries get what all their keys give them.
template <int D, class S>
DEVICE void attn_queries_block(GLOBAL(bf16) dqkv, GLOBAL(const bf16) qkv, GLOBAL(const bf16) dy, GLOBAL(const float) lse,
                               GLOBAL(const float) delta, S& sh, const attn& z) {
  int q0 = (int)(BLOCKS_X - 1 - BLOCK_X) * ATTN_ROWS, h = BLOCK_Y, b = BLOCK_Z, g = h / (z.heads / z.kv);
  int warp = (int)TID >> 5, row = q0 + 16 * warp;
  long64 at = (long64)b * z.T * z.stride, kat = at + (z.heads + g) * z.hd, vat = kat + z.kv * z.hd;
  unsigned q[D / 16][4], o[D / 16][4];
  float dq[D / 8][4] = {};
  attn_rows<D>(sh, 0, ATTN_ROWS, qkv, at + h * z.hd, q0, z, z.stride);         // 1. queries and gradients to registers
  SYNC();
  attn_side<D>(q, sh, 16 * warp);
  SYNC();
  attn_rows<D>(sh, 0, ATTN_ROWS, dy, ((long64)b * z.T * z.heads + h) * z.hd, q0, z, z.heads * z.hd);
  SYNC();
  attn_side<D>(o, sh, 16 * warp);
  for (int k0 = 0; k0 < q0 + ATTN_ROWS && k0 < z.T; k0 += 32) {
    float s[4][4], d[4][4];
    SYNC();
    attn_rows<D>(sh, 0, 32, qkv, kat, k0, z, z.stride);                        // 2. a block of keys and values
    attn_rows<D>(sh, 32, 32, qkv, vat, k0, z, z.stride);
    SYNC();
    attn_dots<D>(s, q, sh, 0);                                                 // 3. s = q·kᵀ, d = do·vᵀ
    attn_dots<D>(d, o, sh, 32);
    attn_grads(s, d, lse, delta, ((long64)b * z.heads + h) * z.T, row + lane_row(), k0 + lane_col(), 0, z); // 4. ds
    attn_gather<D, 2>(dq, d, sh, row - k0, 0);                              // 5. dq += ds·k
  }
  attn_put<D>(dqkv, at + h * z.hd, z.stride, row, z, dq, 1, 1);
}

// delta is Σ dy·y of every row and head. A warp makes one: grid ⌈B·T·heads/4⌉; rows counts the B·T.
KERNEL(128) void attention_delta(GLOBAL(float) delta, GLOBAL(const bf16) y, GLOBAL(const bf16) dy, int rows, int T, int heads, int hd) {
  long64 u = (long64)BLOCK_X * 4 + (TID >> 5);
  if (u >= (long64)rows * heads) return;
  float sum = 0;
  for (int d = TID & 31; d < hd; d += 32) sum += wide(dy[u * hd + d]) * wide(y[u * hd + d]);
  sum = warp_sum(sum);
  int h = (int)(u % heads);
  long64 row = u / heads;
  if ((TID & 31) == 0) delta[(row / T * heads + h) * T + row % T] = sum;
}

// Heads up to 32 wide. Forward and queries: grid (⌈T/64⌉, heads, B); keys: grid (⌈T/64⌉, kv, B). Keys writes the gradients of keys
// and values, queries that of queries, in any order after attention_delta.
KERNEL(128) void attention_32(GLOBAL(bf16) y, GLOBAL(float) lse, GLOBAL(const bf16) qkv, int T, int heads, int kv, int hd, int stride) {
  SHARED(bf16, ks, ATTN_ROWS * (32 + 8));
  SHARED(bf16, vs, ATTN_ROWS * (32 + 8));
  attn_forward_block<32>(y, lse, qkv, ks, vs, attn{T, heads, kv, hd, stride});
}

KERNEL(128) void attention_keys_32(GLOBAL(bf16) dqkv, GLOBAL(const bf16) qkv, GLOBAL(const bf16) dy, GLOBAL(const float) lse, GLOBAL(const float) delta, int T, int heads, int kv, int hd, int stride) {
  SHARED(bf16, ks, ATTN_ROWS * (32 + 8));
  SHARED(bf16, vs, ATTN_ROWS * (32 + 8));
  SHARED(bf16, qs, 32 * (32 + 8));
  SHARED(bf16, ds, 32 * (32 + 8));
  attn_keys_block<32, 32>(dqkv, qkv, dy, lse, delta, ks, vs, qs, ds, attn{T, heads, kv, hd, stride});
}

KERNEL(128) void attention_queries_32(GLOBAL(bf16) dqkv, GLOBAL(const bf16) qkv, GLOBAL(const bf16) dy, GLOBAL(const float) lse, GLOBAL(const float) delta, int T, int heads, int kv, int hd, int stride) {
  SHARED(bf16, sh, ATTN_ROWS * (32 + 8));
  attn_queries_block<32>(dqkv, qkv, dy, lse, delta, sh, attn{T, heads, kv, hd, stride});
}

// Heads up to 64 wide. Forward and queries: grid (⌈T/64⌉, heads, B); keys: grid (⌈T/64⌉, kv, B). Keys writes the gradients of keys
// and values, queries that of queries, in any order after attention_delta.
KERNEL(128) void attention_64(GLOBAL(bf16) y, GLOBAL(float) lse, GLOBAL(const bf16) qkv, int T, int heads, int kv, int hd, int stride) {
  SHARED(bf16, ks, ATTN_ROWS * (64 + 8));
  SHARED(bf16, vs, ATTN_ROWS * (64 + 8));
  attn_forward_block<64>(y, lse, qkv, ks, vs, attn{T, heads, kv, hd, stride});
}

KERNEL(128) void attention_keys_64(GLOBAL(bf16) dqkv, GLOBAL(const bf16) qkv, GLOBAL(const bf16) dy, GLOBAL(const float) lse, GLOBAL(const float) delta, int T, int heads, int kv, int hd, int stride) {
  SHARED(bf16, ks, ATTN_ROWS * (64 + 8));
  SHARED(bf16, vs, ATTN_ROWS * (64 + 8));
  SHARED(bf16, qs, 32 * (64 + 8));
  SHARED(bf16, ds, 32 * (64 + 8));
  attn_keys_block<64, 32>(dqkv, qkv, dy, lse, delta, ks, vs, qs, ds, attn{T, heads, kv, hd, stride});
}

KERNEL(128) void attention_queries_64(GLOBAL(bf16) dqkv, GLOBAL(const bf16) qkv, GLOBAL(const bf16) dy, GLOBAL(const float) lse, GLOBAL(const float) delta, int T, int heads, int kv, int hd, int stride) {
  SHARED(bf16, sh, ATTN_ROWS * (64 + 8));
  attn_queries_block<64>(dqkv, qkv, dy, lse, delta, sh, attn{T, heads, kv, hd, stride});
}

// Heads up to 128 wide. Forward and queries: grid (⌈T/64⌉, heads, B); keys: grid (⌈T/64⌉, kv, B). Keys writes the gradients of keys
// and values, queries that of queries, in any order after attention_delta.
KERNEL(128) void attention_128(GLOBAL(bf16) y, GLOBAL(float) lse, GLOBAL(const bf16) qkv, int T, int heads, int kv, int hd, int stride) {
  SHARED(bf16, ks, ATTN_ROWS * (128 + 8));
  SHARED(bf16, vs, ATTN_ROWS * (128 + 8));
  attn_forward_block<128>(y, lse, qkv, ks, vs, attn{T, heads, kv, hd, stride});
}

KERNEL(128) void attention_keys_128(GLOBAL(bf16) dqkv, GLOBAL(const bf16) qkv, GLOBAL(const bf16) dy, GLOBAL(const float) lse, GLOBAL(const float) delta, int T, int heads, int kv, int hd, int stride) {
  SHARED(bf16, ks, ATTN_ROWS * (128 + 8));
  SHARED(bf16, vs, ATTN_ROWS * (128 + 8));
  SHARED(bf16, qs, 16 * (128 + 8));
  SHARED(bf16, ds, 16 * (128 + 8));
  attn_keys_block<128, 16>(dqkv, qkv, dy, lse, delta, ks, vs, qs, ds, attn{T, heads, kv, hd, stride});
}

KERNEL(128) void attention_queries_128(GLOBAL(bf16) dqkv, GLOBAL(const bf16) qkv, GLOBAL(const bf16) dy, GLOBAL(const float) lse, GLOBAL(const float) delta, int T, int heads, int kv, int hd, int stride) {
  SHARED(bf16, sh, ATTN_ROWS * (128 + 8));
  attn_queries_block<128>(dqkv, qkv, dy, lse, delta, sh, attn{T, heads, kv, hd, stride});
}
