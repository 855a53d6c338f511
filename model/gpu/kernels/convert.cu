// Values from one place to another, element by element. Any grid in x: its blocks share the vector out.
#include "eight.h"

// first and step of a thread's eights.
DEVICE long64 my_first() { return 8 * ((long64)BLOCK_X * 256 + TID); }
DEVICE long64 my_step() { return 8 * 256 * (long64)BLOCKS_X; }

// to_bf16: d (n) = s (n), rounded as model/kern's RoundBF16, bit for bit.
KERNEL(256) void to_bf16(GLOBAL(bf16) d, GLOBAL(const float) s, long64 n) {
  for (long64 i = my_first(); i < n; i += my_step()) put8(d, i, eight(i, n), get8(s, i, eight(i, n)));
}

// to_float: d (n) = s (n); no bit is lost.
KERNEL(256) void to_float(GLOBAL(float) d, GLOBAL(const bf16) s, long64 n) {
  for (long64 i = my_first(); i < n; i += my_step()) put8(d, i, eight(i, n), get8(s, i, eight(i, n)));
}

// zero: d (n) = 0.
KERNEL(256) void zero(GLOBAL(float) d, long64 n) {
  f8 a = {{0, 0, 0, 0, 0, 0, 0, 0}};
  for (long64 i = my_first(); i < n; i += my_step()) put8(d, i, eight(i, n), a);
}

// zero_bf16: d (n) = 0.
KERNEL(256) void zero_bf16(GLOBAL(bf16) d, long64 n) {
  f8 a = {{0, 0, 0, 0, 0, 0, 0, 0}};
  for (long64 i = my_first(); i < n; i += my_step()) put8(d, i, eight(i, n), a);
}

// add_to is d += s, rounded to what d is.
template <class D, class S> DEVICE void add_to(GLOBAL(D) d, GLOBAL(const S) s, long64 n) {
  for (long64 i = my_first(); i < n; i += my_step()) {
    f8 a = get8(d, i, eight(i, n)), b = get8(s, i, eight(i, n));
    EIGHT(k) a.v[k] = add(a.v[k], b.v[k]);
    put8(d, i, eight(i, n), a);
  }
}

// add_float: d (n) += s (n).
KERNEL(256) void add_float(GLOBAL(float) d, GLOBAL(const float) s, long64 n) { add_to<float, float>(d, s, n); }

// add_bf16: d (n) += s (n), in float32, rounded.
KERNEL(256) void add_bf16(GLOBAL(bf16) d, GLOBAL(const bf16) s, long64 n) { add_to<bf16, bf16>(d, s, n); }

// add_half: d (n) += s (n) with s in bfloat16, d in float32.
KERNEL(256) void add_half(GLOBAL(float) d, GLOBAL(const bf16) s, long64 n) { add_to<float, bf16>(d, s, n); }
