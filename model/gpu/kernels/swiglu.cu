// SwiGLU (Shazeer, arXiv 2002.05202, equation 6, without biases): a = silu(gate)·up with silu(x) = x·σ(x), on packed rows gate|up.
#include "eight.h"

// sigma is the logistic function; 0 and 1 far out, NaN of NaN.
DEVICE float sigma(float x) { return rcp_(1 + exp_(-x)); }

// swiglu: grid (N). a (N,F), gu (N,2F).
KERNEL(256) void swiglu(GLOBAL(bf16) a, GLOBAL(const bf16) gu, int F) {
  long64 out = (long64)BLOCK_X * F, in = 2 * out;
  for (int j = 8 * TID; j < F; j += 8 * 256) {
    int n = eight(j, F);
    f8 g = get8(gu, in + j, n), u = get8(gu, in + F + j, n);
    EIGHT(k) g.v[k] = g.v[k] * sigma(g.v[k]) * u.v[k];
    put8(a, out + j, n, g);
  }
}

// glu_back makes row BLOCK_X of dgu, the gradients of gate and up, given that of a: with s = σ(g),
//
//	dg = da·u·s·(1 + g·(1 − s)),   du = da·g·s
template <class Da> DEVICE void glu_back(GLOBAL(bf16) dgu, GLOBAL(const bf16) gu, GLOBAL(const Da) da, int F) {
  long64 in = (long64)BLOCK_X * F, out = 2 * in;
  for (int j = 8 * TID; j < F; j += 8 * 256) {
    int n = eight(j, F);
    f8 g = get8(gu, out + j, n), u = get8(gu, out + F + j, n), d = get8(da, in + j, n);
    EIGHT(k) {
      float s = sigma(g.v[k]), x = g.v[k];
      g.v[k] = d.v[k] * u.v[k] * s * (1 + x * (1 - s));
      u.v[k] = d.v[k] * x * s;
    }
    put8(dgu, out + j, n, g);
    put8(dgu, out + F + j, n, u);
  }
}

// swiglu_back: grid (N). dgu (N,2F), gu (N,2F), da (N,F); dgu may be gu.
KERNEL(256) void swiglu_back(GLOBAL(bf16) dgu, GLOBAL(const bf16) gu, GLOBAL(const float) da, int F) { glu_back<float>(dgu, gu, da, F); }

// swiglu_back_half is swiglu_back with da in bfloat16.
KERNEL(256) void swiglu_back_half(GLOBAL(bf16) dgu, GLOBAL(const bf16) gu, GLOBAL(const bf16) da, int F) { glu_back<bf16>(dgu, gu, da, F); }
