// The embedding: rows of a table by token, and the gradient of the table.
#include "eight.h"

// embed: grid (N). x (N,C) = the rows ids (N) of table (V,C). Ids are checked by the host.
KERNEL(256) void embed(GLOBAL(bf16) x, GLOBAL(const int) ids, GLOBAL(const bf16) table, int C) {
  long64 to = (long64)BLOCK_X * C, from = (long64)ids[BLOCK_X] * C;
  for (int j = 8 * TID; j < C; j += 8 * 256) {
    int n = eight(j, C);
    put8(x, to + j, n, get8(table, from + j, n));
  }
}

// add_token adds to one row of dtable the rows of dx whose token it is. Block BLOCK_X has the segment start[BLOCK_X] to
// start[BLOCK_X+1] of order: positions with the same token, ascending; so the order of the sum is that of the positions, and no two
// blocks have the same row. The segments are made by the host (Segments), the last ones empty, so that the grid is always N.
template <class G, class D> DEVICE void add_token(GLOBAL(G) dtable, GLOBAL(const D) dx, GLOBAL(const int) ids, GLOBAL(const int) order, GLOBAL(const int) start, int C) {
  int from = start[BLOCK_X], to = start[BLOCK_X + 1];
  if (from >= to) return;
  long64 row = (long64)ids[order[from]] * C;
  for (int j = 8 * TID; j < C; j += 8 * 256) {
    int n = eight(j, C);
    f8 sum = get8(dtable, row + j, n);
    for (int i = from; i < to; i++) {
      f8 d = get8(dx, (long64)order[i] * C + j, n);
      EIGHT(k) sum.v[k] += d.v[k];
    }
    put8(dtable, row + j, n, sum);
  }
}

// embed_back: grid (N). dtable (V,C) += the rows of dx (N,C) at ids (N); order (N) and start (N+1) by Segments.
KERNEL(256) void embed_back(GLOBAL(float) dtable, GLOBAL(const float) dx, GLOBAL(const int) ids, GLOBAL(const int) order, GLOBAL(const int) start, int C) {
  add_token<float, float>(dtable, dx, ids, order, start, C);
}

// embed_back_half is embed_back with dx in bfloat16.
KERNEL(256) void embed_back_half(GLOBAL(float) dtable, GLOBAL(const bf16) dx, GLOBAL(const int) ids, GLOBAL(const int) order, GLOBAL(const int) start, int C) {
  add_token<float, bf16>(dtable, dx, ids, order, start, C);
}

// embed_back_bf16 is embed_back with both in bfloat16; a sum is rounded once.
KERNEL(256) void embed_back_bf16(GLOBAL(bf16) dtable, GLOBAL(const bf16) dx, GLOBAL(const int) ids, GLOBAL(const int) order, GLOBAL(const int) start, int C) {
  add_token<bf16, bf16>(dtable, dx, ids, order, start, C);
}
