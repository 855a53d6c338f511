// Rotary positions (Su et al., arXiv 2104.09864, equation 34) in Llama's halves: of a head of 2·half values, element i and element
// half+i turn by the angle of position and i.
#include "eight.h"

// rope: grid (N). Rotates the first `heads` heads of every row of v (N,ld), where the query and key heads of a packed q|k|v row
// lie; row i is at position first + i%T. cos and sin (at least first+T,half) are made by the host. sign is 1; −1 rotates back, which
// makes of gradients of rotated values those of the values before.
KERNEL(256) void rope(GLOBAL(bf16) v, GLOBAL(const float) cos, GLOBAL(const float) sin, int T, int first, int heads, int half, int ld, float sign) {
  long64 row = (long64)BLOCK_X * ld, angle = (long64)(first + (int)BLOCK_X % T) * half;
  int units = (half + 7) / 8; // of a head
  for (int u = TID; u < heads * units; u += 256) {
    int head = u / units, j = 8 * (u % units), n = eight(j, half);
    long64 at = row + (long64)head * 2 * half + j;
    f8 a = get8(v, at, n), b = get8(v, at + half, n), c = get8(cos, angle + j, n), s = get8(sin, angle + j, n);
    EIGHT(k) {
      float x = a.v[k], y = b.v[k], z = s.v[k] * sign;
      a.v[k] = x * c.v[k] - y * z;
      b.v[k] = x * z + y * c.v[k];
    }
    put8(v, at, n, a);
    put8(v, at + half, n, b);
  }
}
