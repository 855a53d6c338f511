// The protocol's arithmetic (package gradients, DESIGN.md §5): what miners send and what every node makes of it. Bit for bit what
// gradients.Feedback, gradients.Codec and gradients.AggregateChunk do on a CPU; NaNs alone may have other bits.
//
// One block works on one chunk: C chunks of at most 4096 values, those of chunk c being [begin[c], begin[c+1]) of a vector in chunk
// order, so that a rank with a range of chunks passes pieces. Entropy coding (gaps, bit strings) stays on the host, which is bound by
// the dependence of each code on the one before; indices, codes and scales are what goes between.
#include "device.h"

// float64, rounded and never contracted, for the quantiser's sums
#if defined(STANDIN)
DEVICE double mul_d(double a, double b) { return a * b; }
DEVICE double add_d(double a, double b) { return a + b; }
DEVICE double sub_d(double a, double b) { return a - b; }
#else
DEVICE double mul_d(double a, double b) { double y; asm("mul.rn.f64 %0, %1, %2;" : "=d"(y) : "d"(a), "d"(b)); return y; }
DEVICE double add_d(double a, double b) { double y; asm("add.rn.f64 %0, %1, %2;" : "=d"(y) : "d"(a), "d"(b)); return y; }
DEVICE double sub_d(double a, double b) { double y; asm("sub.rn.f64 %0, %1, %2;" : "=d"(y) : "d"(a), "d"(b)); return y; }
#endif

// scale_bits is gradients' table of scales, 2^(c/8 − 28) for c in 0..255, as bits of a float32.
DEVICE unsigned scale_bits(int c) {
  unsigned o = c & 1;
  unsigned low = c & 2 ? (o ? 0x25FED7u : 0x1837F0u) : (o ? 0x0B95C2u : 0u);
  unsigned high = c & 2 ? (o ? 0x6AC0C7u : 0x5744FDu) : (o ? 0x45672Au : 0x3504F3u);
  return (unsigned)(99 + (c >> 3)) << 23 | (c & 4 ? high : low);
}

// split_bits is the largest magnitude that counts as small with scale c: 1.5 times the scale, rounded down.
DEVICE unsigned split_bits(int c) {
  unsigned s = scale_bits(c), half = 3 * ((s & 0x7FFFFFu) | 0x800000u), e = s >> 23; // half: 1.5 times the mantissa, and a bit more
  return half >> 25 ? (e << 23) + (half >> 2) : ((e - 1) << 23) + (half >> 1);
}

// level is what a receiver decodes: the large magnitude (code 1) is an octave above the small one, code 2 is the sign.
DEVICE float level_of(int scale, int code) {
  return float_of((scale_bits(scale) + ((code & 1) << 23)) | (unsigned)(code & 2) << 30);
}

// sum_before is the sum of v over the threads before this one in a block of 256; total becomes that of all. warps is shared.
template <class S> DEVICE unsigned sum_before(unsigned v, S& warps, unsigned& total) {
  int lane = TID & 31, warp = TID >> 5;
  unsigned sum = v, before = 0;
  for (int d = 1; d < 32; d *= 2) {
    unsigned o = shfl_u(sum, (lane - d) & 31);
    sum += lane < d ? 0 : o;
  }
  if (lane == 31) warps[warp] = sum;
  SYNC();
  total = 0;
  for (int w = 0; w < 8; w++) {
    before += w < warp ? warps[w] : 0;
    total += warps[w];
  }
  SYNC();
  return before + sum - v;
}

// sort_ascending sorts the first n of s, shared, by comparing pairs (bitonic); s has room up to the next power of two.
template <class S> DEVICE void sort_ascending(S& s, int n) {
  int all = 1;
  while (all < n) all *= 2;
  for (int i = n + (int)TID; i < all; i += 256) s[i] = 0xFFFFFFFFu;
  for (int len = 2; len <= all; len *= 2) {
    for (int apart = len / 2; apart; apart /= 2) {
      SYNC();
      for (int i = (int)TID; i < all; i += 256) {
        int j = i ^ apart;
        if (j < i) continue;
        unsigned a = s[i], b = s[j];
        if ((a > b) == ((i & len) == 0)) s[i] = b, s[j] = a;
      }
    }
  }
  SYNC();
}

// feedback: steps 1 and 2 of gradients.Feedback.Begin (Seide et al. 2014; SparseLoCo, arXiv 2508.15706 §3).
//   e (n) = beta·old (n) + (start (n) − end (n)), e may be old; start is θ at the window's start, end what was trained.
// Grid: ⌈n/256⌉.
KERNEL(256) void feedback(GLOBAL(float) e, GLOBAL(const float) old, GLOBAL(const float) start, GLOBAL(const float) end, long64 n, float beta) {
  long64 i = (long64)BLOCK_X * 256 + TID;
  if (i < n) e[i] = add(mul(beta, old[i]), sub(start[i], end[i]));
}

// compress: steps 3 and 4 of gradients.Feedback.Begin; chooses what a chunk sends (gradients.picker) and takes it out of e.
//   e: values in chunk order, becomes the residual; begin (C+1): of the chunks in it
//   room (C+1): of the chunks in idx and codes; chunk c may send room[c+1] − room[c] values, at least 1 and no more than it has
//   idx, codes: 16-bit indices, ascending, and codes (1: large, 2: negative); scales (C); counts (C): values sent,
//   or −1 if a value is not finite: then the chunk is as it was.
// Grid: C.
KERNEL(256) void compress(GLOBAL(float) e, GLOBAL(const long64) begin, GLOBAL(const long64) room, GLOBAL(bf16) idx,
                          GLOBAL(unsigned char) codes, GLOBAL(unsigned char) scales, GLOBAL(int) counts) {
  SHARED(unsigned, warps, 8);
  SHARED(unsigned, mag, 4096);
  SHARED(double, errors, 256);
  const unsigned smallest = 0x31000000u, infinite = 0x7F800000u, magnitude = 0x7FFFFFFFu; // gradients: half the smallest scale
  long64 from = begin[BLOCK_X], to = room[BLOCK_X];
  int real = (int)(begin[BLOCK_X + 1] - from), keep = (int)(room[BLOCK_X + 1] - to), first = (int)TID * 16;
  unsigned v[16], total, odd = 0; // a thread has 16 consecutive values, zeros behind the chunk
  UNROLL for (int i = 0; i < 16; i++) {
    v[i] = first + i < real ? bits(e[from + first + i]) : 0;
    odd += (v[i] & magnitude) >= infinite;
  }
  sum_before(odd, warps, total);
  if (total > 0) {
    if (TID == 0) counts[BLOCK_X] = -1, scales[BLOCK_X] = 0;
    return;
  }

  // 1. limit is the keep-th largest magnitude, bit by bit, or less where that many reach it; what is below smallest is not sent
  unsigned limit = 0;
  total = 0;
  for (unsigned bit = 1u << 30; bit && total != (unsigned)keep; bit >>= 1) {
    unsigned reach = 0;
    UNROLL for (int i = 0; i < 16; i++) reach += (v[i] & magnitude) >= (limit | bit);
    sum_before(reach, warps, total);
    if (total >= (unsigned)keep) limit |= bit;
  }
  bool few = limit < smallest; // fewer than keep are large enough: all of them, and no tie
  if (few) limit = smallest - 1;

  // 2. those above limit are sent, and of those equal to it the first ones; their order is that of the indices
  unsigned mine = 0;
  UNROLL for (int i = 0; i < 16; i++) mine += ((v[i] & magnitude) > limit) + ((unsigned)((v[i] & magnitude) == limit) << 16);
  unsigned before = sum_before(mine, warps, total);
  int above = before & 0xFFFF, equal = before >> 16, ties = few ? 0 : keep - (int)(total & 0xFFFF);
  int n = (int)(total & 0xFFFF) + ties;
  int place = above + (equal < ties ? equal : ties), at = place;
  unsigned sent = 0; // bit i: value i is
  UNROLL for (int i = 0; i < 16; i++) {
    unsigned m = v[i] & magnitude;
    if (m > limit || (m == limit && equal++ < ties)) {
      sent |= 1u << i;
      mag[at++] = m;
    }
  }
  SYNC();
  if (n == 0) {
    if (TID == 0) counts[BLOCK_X] = 0, scales[BLOCK_X] = 0;
    return;
  }

  // 3. thread c finds the squared error of scale c, less Σm²: s·(s·B − 2A) (gradients.squared). While the exponents are close the sums
  // are exact in any order; then scales from half the least magnitude to the largest can be best. Else the order is ascending.
  int c = (int)TID, small = 0, size = 0;
  unsigned split = split_bits(c), least = magnitude, most = 0;
  double below = 0, all = 0;
  for (int j = 0; j < n; j++) {
    unsigned m = mag[j];
    double x = (double)float_of(m);
    least = m < least ? m : least;
    most = m > most ? m : most;
    all = add_d(all, x);
    if (m <= split) small++, below = add_d(below, x);
  }
  for (int x = n; x; x >>= 1) size++;
  bool exact = (int)(most >> 23) - (int)(least >> 23) <= 28 - size;
  double over = sub_d(all, below);
  bool possible = !exact || ((c + 5 > 255 || least <= split_bits(c + 5)) && (c < 6 || most > split_bits(c - 6)));
  if (!exact) {
    sort_ascending(mag, n);
    below = all = 0;
    for (int j = 0; j < n; j++) all = add_d(all, (double)float_of(mag[j]));
    over = all;
    for (int j = 0; j < small; j++) {
      double x = (double)float_of(mag[j]);
      below = add_d(below, x);
      over = sub_d(over, x);
    }
  }
  double s = (double)float_of(scale_bits(c)), lowest = (double)float_of(infinite);
  double a = add_d(below, mul_d(2, over));
  errors[c] = possible ? mul_d(s, sub_d(mul_d(s, (double)(small + 4 * (n - small))), mul_d(2, a))) : lowest;
  SYNC();
  int scale = 0; // of equal errors the lower scale wins
  for (int i = 0; i < 256; i++)
    if (errors[i] < lowest) lowest = errors[i], scale = i;

  // 4. codes; a chunk of only large values is written an octave higher as only small ones. 5. e <- e − what receivers decode
  split = split_bits(scale);
  if (least > split && scale + 8 < 256) split = magnitude, scale += 8;
  at = place;
  UNROLL for (int i = 0; i < 16; i++) {
    if (sent >> i & 1) {
      int code = ((v[i] & magnitude) > split) | v[i] >> 31 << 1;
      idx[to + at] = (bf16)(first + i);
      codes[to + at++] = (unsigned char)code;
      e[from + first + i] = sub(float_of(v[i]), level_of(scale, code));
    }
  }
  if (TID == 0) counts[BLOCK_X] = n, scales[BLOCK_X] = (unsigned char)scale;
}

// decode: the values of a payload (gradients.value).
//   val: values as codes; codes; scales (C); at (C+1): of the chunks in val and codes
// Grid: C.
KERNEL(256) void decode(GLOBAL(float) val, GLOBAL(const unsigned char) codes, GLOBAL(const unsigned char) scales, GLOBAL(const long64) at) {
  int scale = scales[BLOCK_X];
  for (long64 j = at[BLOCK_X] + TID; j < at[BLOCK_X + 1]; j += 256) val[j] = level_of(scale, codes[j]);
}

// outer_step: gradients.AggregateChunk: to = from − alpha·(Σ_r clip_r·part_r)/div, parts in order, every product rounded before it is added.
//   to, from: θ in chunk order, may be the same; begin (C+1): of the chunks in them
//   at (R, C+1): of the chunks of each payload in idx and codes; idx: below 4096, no index twice in a chunk of a payload, as parsed
//   payloads are; codes; scales (R, C); clip (R)
// Grid: C.
KERNEL(256) void outer_step(GLOBAL(float) to, GLOBAL(const float) from, GLOBAL(const long64) begin, GLOBAL(const long64) at,
                            GLOBAL(const bf16) idx, GLOBAL(const unsigned char) codes, GLOBAL(const unsigned char) scales,
                            GLOBAL(const float) clip, int chunks, int parts, float alpha, float div_by) {
  SHARED(float, sum, 4096);
  for (int i = (int)TID; i < 4096; i += 256) sum[i] = 0;
  SYNC();
  for (int r = 0; r < parts; r++) {
    long64 row = (long64)r * (chunks + 1) + BLOCK_X, end = at[row + 1];
    int scale = scales[(long64)r * chunks + BLOCK_X];
    for (long64 j = at[row] + TID; j < end; j += 256) {
      int i = idx[j] & 4095;
      sum[i] = add(sum[i], mul(clip[r], level_of(scale, codes[j])));
    }
    SYNC(); // the next payload may send the same index
  }
  long64 first = begin[BLOCK_X];
  int n = (int)(begin[BLOCK_X + 1] - first);
  for (int i = (int)TID; i < n; i += 256) to[first + i] = sub(from[first + i], mul(alpha, div(sum[i], div_by)));
}
