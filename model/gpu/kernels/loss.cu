// Softmax and cross-entropy over rows of logits, as many rows as exist at once: −log softmax(x)[y] and its gradient,
// (softmax(x) − 1[y])·scale, as model/kern's CrossEntropy. Targets of −100 do not count (model.Ignored); the others are checked by
// the host. Maximum and sum in one pass: Milakov and Gimelshein, arXiv 1805.02867, algorithm 3.
#include "eight.h"

// loss_row is the loss of row BLOCK_X of x, whose target is y, and top and sum, the row's maximum and Σ exp(x − top). What is not
// finite shows: the loss is then not finite either. tops and sums are shared memory of 8 values.
template <class In, class S> DEVICE float loss_row(GLOBAL(const In) x, int y, int V, int ld, float* top, float* sum, S& tops, S& sums) {
  long64 row = (long64)BLOCK_X * ld;
  // 1. maximum and sum of what a thread reads; a larger maximum rescales the sum so far
  float m = -3.4028234e38f, s = 0;
  for (int j = 8 * TID; j < V; j += 8 * 256) {
    int n = eight(j, V);
    f8 a = get8(x, row + j, n);
    float was = m;
    EIGHT(k) m = k < n && a.v[k] > m ? a.v[k] : m;
    s *= exp_(was - m);
    EIGHT(k) s += k < n ? exp_(a.v[k] - m) : 0.0f;
  }
  // 2. those of the row; the target is read before any thread goes on to overwrite it
  float right = get8(x, row + y, 1).v[0];
  *top = block_max(m, tops);
  *sum = block_sum(s * exp_(m - *top), sums);
  return *top + log2_(*sum) * 0.693147181f - right;
}

// loss_and_gradient: the loss of row BLOCK_X of x, and its gradient in d, which may be x.
template <class Out, class In, class S> DEVICE void loss_and_gradient(GLOBAL(Out) d, GLOBAL(float) loss, GLOBAL(const In) x, GLOBAL(const int) ys, GLOBAL(const float) scale, int V, int ld, S& tops, S& sums) {
  long64 row = (long64)BLOCK_X * ld;
  int y = ys[BLOCK_X];
  float top = 0, sum = 1, by = 0, l = 0;
  if (y >= 0) { // the same for the whole block
    l = loss_row(x, y, V, ld, &top, &sum, tops, sums);
    by = scale[0];
  }
  if (TID == 0) loss[BLOCK_X] = l;
  // 3. d = (exp(x − top)/Σ − 1[y])·scale, and 0 of what does not count
  float f = div(by, sum);
  for (int j = 8 * TID; j < V; j += 8 * 256) {
    int n = eight(j, V);
    f8 a = {{0, 0, 0, 0, 0, 0, 0, 0}};
    if (y >= 0) {
      a = get8(x, row + j, n);
      EIGHT(k) a.v[k] = exp_(a.v[k] - top) * f - (j + k == y ? by : 0.0f);
    }
    put8(d, row + j, n, a);
  }
}

// cross_entropy: grid (rows). loss (rows); x (rows,ld), of which the first V values of a row are logits, becomes the gradient times
// scale[0], 1/counted. y (rows).
KERNEL(256) void cross_entropy(GLOBAL(float) x, GLOBAL(float) loss, GLOBAL(const int) y, GLOBAL(const float) scale, int V, int ld) {
  SHARED(float, tops, 8);
  SHARED(float, sums, 8);
  loss_and_gradient<float, float>(x, loss, x, y, scale, V, ld, tops, sums);
}

// cross_entropy_bf16 is cross_entropy of logits in bfloat16; the gradient is rounded.
KERNEL(256) void cross_entropy_bf16(GLOBAL(bf16) x, GLOBAL(float) loss, GLOBAL(const int) y, GLOBAL(const float) scale, int V, int ld) {
  SHARED(float, tops, 8);
  SHARED(float, sums, 8);
  loss_and_gradient<bf16, bf16>(x, loss, x, y, scale, V, ld, tops, sums);
}

// cross_entropy_to is cross_entropy of float32 logits whose gradient goes, rounded, to d (rows,ld): the factor of the products that
// follow.
KERNEL(256) void cross_entropy_to(GLOBAL(bf16) d, GLOBAL(float) loss, GLOBAL(const float) x, GLOBAL(const int) y, GLOBAL(const float) scale, int V, int ld) {
  SHARED(float, tops, 8);
  SHARED(float, sums, 8);
  loss_and_gradient<bf16, float>(d, loss, x, y, scale, V, ld, tops, sums);
}

// loss_only: grid (rows). loss (rows) of the rows of x (rows,ld); x stays.
KERNEL(256) void loss_only(GLOBAL(float) loss, GLOBAL(const float) x, GLOBAL(const int) y, int V, int ld) {
  SHARED(float, tops, 8);
  SHARED(float, sums, 8);
  float top, sum, l = 0;
  if (y[BLOCK_X] >= 0) l = loss_row(x, y[BLOCK_X], V, ld, &top, &sum, tops, sums);
  if (TID == 0) loss[BLOCK_X] = l;
}

// loss_only_bf16 is loss_only of logits in bfloat16.
KERNEL(256) void loss_only_bf16(GLOBAL(float) loss, GLOBAL(const bf16) x, GLOBAL(const int) y, int V, int ld) {
  SHARED(float, tops, 8);
  SHARED(float, sums, 8);
  float top, sum, l = 0;
  if (y[BLOCK_X] >= 0) l = loss_row(x, y[BLOCK_X], V, ld, &top, &sum, tops, sums);
  if (TID == 0) loss[BLOCK_X] = l;
}

// loss_sum: grid (1). total[0] += scale[0]·Σ loss (n): chunk by chunk, the step's mean loss.
KERNEL(256) void loss_sum(GLOBAL(float) total, GLOBAL(const float) loss, GLOBAL(const float) scale, int n) {
  SHARED(float, part, 8);
  float s = 0;
  for (int i = TID; i < n; i += 256) s += loss[i];
  s = block_sum(s, part);
  if (TID == 0) total[0] += scale[0] * s;
}
