// One step of AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2) over a flat vector of parameters, in three launches that
// the host need not wait between: squares of pieces, clip, step. What differs from step to step lies in device memory:
//
//	table    [10] lr, β1, β2, ε, decay, 1/(1−β1^t), 1/(1−β2^t), 1−β1, 1−β2, the norm to clip to (0: none)
//	outcome  [4]  mean loss, norm of the gradient, factor by which the gradient is clipped, 1 if loss and norm are finite, else 0
//
// Pieces cut the vector: piece i is [from[i], from[i+1]), of one tensor, at most some 64 Ki values; sums over pieces depend on
// nothing else.
#include "eight.h"

// sum_piece is Σ g² of piece BLOCK_X. The groups of eight are those of the vector, so that whole ones are read as vectors.
template <class G, class S> DEVICE void sum_piece(GLOBAL(float) sums, GLOBAL(const G) g, GLOBAL(const long64) from, S& part) {
  long64 first = from[BLOCK_X], end = from[BLOCK_X + 1];
  float s = 0;
  for (long64 i = (first & ~7LL) + 8 * TID; i < end; i += 8 * 256) {
    long64 at = i < first ? first : i;
    f8 x = get8(g, at, eight(at, i + 8 < end ? i + 8 : end));
    EIGHT(k) s += x.v[k] * x.v[k];
  }
  s = block_sum(s, part);
  if (TID == 0) sums[BLOCK_X] = s;
}

// squares: grid (pieces). sums (pieces) = Σ g² of each; from (pieces+1).
KERNEL(256) void squares(GLOBAL(float) sums, GLOBAL(const float) g, GLOBAL(const long64) from) {
  SHARED(float, part, 8);
  sum_piece<float>(sums, g, from, part);
}

// squares_bf16 is squares of a gradient in bfloat16.
KERNEL(256) void squares_bf16(GLOBAL(float) sums, GLOBAL(const bf16) g, GLOBAL(const long64) from) {
  SHARED(float, part, 8);
  sum_piece<bf16>(sums, g, from, part);
}

DEVICE int is_finite(float x) { return (bits(x) & 0x7F800000u) != 0x7F800000u; }

// clip: grid (1). outcome[1..3] from sums (pieces) and outcome[0]: the norm, min(1, limit/(norm + 1e-6)), and whether to step.
KERNEL(256) void clip(GLOBAL(float) outcome, GLOBAL(const float) sums, GLOBAL(const float) table, int pieces) {
  SHARED(float, part, 8);
  float s = 0;
  for (int i = TID; i < pieces; i += 256) s += sums[i];
  float norm = sqrt_(block_sum(s, part)), limit = table[9], f = div(limit, add(norm, 1e-6f));
  if (TID != 0) return;
  outcome[1] = norm;
  outcome[2] = limit > 0 && f < 1 ? f : 1;
  outcome[3] = is_finite(outcome[0]) && is_finite(norm) ? 1 : 0;
}

// adam_value is the step of one parameter p with the gradient x, in the order and with the roundings of model/kern's assembly, so
// that the bits are the same.
DEVICE void adam_value(float* p, float* m, float* v, float x, float decay, const float* k) {
  // 1. the moments: m = β1·m + (1−β1)·x, v = β2·v + (1−β2)·x²
  *m = fma_(x, k[7], mul(*m, k[1]));
  *v = fma_(*v, k[2], mul(mul(x, x), k[8]));
  // 2. u = m̂/(√v̂ + ε) + decay·p
  float u = fma_(*p, decay, div(mul(*m, k[5]), add(sqrt_(mul(*v, k[6])), k[3])));
  // 3. p −= lr·u
  *p = fma_(-k[0], u, *p);
}

// noise_of is output i of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, figure 13) from the state seed: a function of the counter i.
DEVICE ulong64 noise_of(ulong64 seed, long64 i) {
  ulong64 z = seed + ((ulong64)i + 1) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

// chance_bf16 rounds x up or down with the chances of its distances, so that it is right on average: r are 16 random bits.
DEVICE float chance_bf16(float x, unsigned r) {
  if ((bits(x) & 0x7FFFFFFFu) > 0x7F800000u) return x;
  return float_of((bits(x) + (r & 0xFFFFu)) & 0xFFFF0000u);
}

// adam_piece makes the step of piece BLOCK_X, or nothing where outcome says so. With
// chance, moments are rounded by the noise of seed.
template <class M, class G> DEVICE void adam_piece(GLOBAL(float) p, GLOBAL(M) m, GLOBAL(M) v, GLOBAL(bf16) h, GLOBAL(const G) g, GLOBAL(const long64) from, GLOBAL(const unsigned char) decayed, GLOBAL(const float) table, GLOBAL(const float) outcome, int chance, ulong64 seed, long64 base) {
  if (outcome[3] == 0) return;
  long64 first = from[BLOCK_X], end = from[BLOCK_X + 1];
  float k[9], scale = outcome[2];
  for (int i = 0; i < 9; i++) k[i] = table[i];
  float decay = decayed[BLOCK_X] ? k[4] : 0.0f;
  for (long64 i = (first & ~7LL) + 8 * TID; i < end; i += 8 * 256) {
    long64 at = i < first ? first : i;
    int n = eight(at, i + 8 < end ? i + 8 : end);
    f8 a = get8(p, at, n), b = get8(m, at, n), c = get8(v, at, n), x = get8(g, at, n);
    EIGHT(j) {
      adam_value(&a.v[j], &b.v[j], &c.v[j], mul(x.v[j], scale), decay, k);
      if (chance) {
        ulong64 r = noise_of(seed, base + at + j);
        b.v[j] = chance_bf16(b.v[j], (unsigned)r);
        c.v[j] = chance_bf16(c.v[j], (unsigned)(r >> 16));
      }
    }
    put8(p, at, n, a);
    put8(m, at, n, b);
    put8(v, at, n, c);
    put8(h, at, n, a);
  }
}

// adamw: grid (pieces). p, m, v, g and h, the new p rounded to bfloat16, (n); from (pieces+1), decayed (pieces): 0 where weight decay
// does not apply. Bits as model/kern's Step by assembly.
KERNEL(256) void adamw(GLOBAL(float) p, GLOBAL(float) m, GLOBAL(float) v, GLOBAL(bf16) h, GLOBAL(const float) g, GLOBAL(const long64) from, GLOBAL(const unsigned char) decayed, GLOBAL(const float) table, GLOBAL(const float) outcome) {
  adam_piece<float, float>(p, m, v, h, g, from, decayed, table, outcome, 0, 0, 0);
}

// adamw_chance is adamw with moments in bfloat16, rounded by chance: value i of the vector takes output base+i of the noise whose
// state is seed[0], which the host draws anew for every step. base is where the vector begins in the whole model's.
KERNEL(256) void adamw_chance(GLOBAL(float) p, GLOBAL(bf16) m, GLOBAL(bf16) v, GLOBAL(bf16) h, GLOBAL(const float) g, GLOBAL(const long64) from, GLOBAL(const unsigned char) decayed, GLOBAL(const float) table, GLOBAL(const float) outcome, GLOBAL(const ulong64) seed, long64 base) {
  adam_piece<bf16, float>(p, m, v, h, g, from, decayed, table, outcome, 1, seed[0], base);
}

// adamw_chance_bf16 is adamw_chance with the gradient in bfloat16.
KERNEL(256) void adamw_chance_bf16(GLOBAL(float) p, GLOBAL(bf16) m, GLOBAL(bf16) v, GLOBAL(bf16) h, GLOBAL(const bf16) g, GLOBAL(const long64) from, GLOBAL(const unsigned char) decayed, GLOBAL(const float) table, GLOBAL(const float) outcome, GLOBAL(const ulong64) seed, long64 base) {
  adam_piece<bf16, bf16>(p, m, v, h, g, from, decayed, table, outcome, 1, seed[0], base);
}
