// The CUDA C subset that all kernels are written in. One source, four compilers: clang-19 makes the PTX that is shipped, NVRTC or
// nvcc check it, and g++ with shim.h (STANDIN) runs it on a CPU in the tests, where every access is checked.
//
// Rules of the subset:
//   - a kernel is KERNEL(threads) void name(...), extern "C" through the macro; its block has that many threads in x, one dimension;
//   - parameters are GLOBAL(T) and GLOBAL(const T) pointers with T of float, bf16, int, unsigned, unsigned char, long64, ulong64, and
//     scalars of int, unsigned, float, long64, ulong64; at most 16;
//   - memory of a block is SHARED(T, name, count), aligned to 16 bytes, at most 48 KiB a kernel; no dynamic shared memory; a DEVICE
//     function takes it, or global memory, as GLOBAL(T);
//   - global and shared memory are read and written by [] and by the functions below, never through a cast;
//   - every thread of a block meets the same SYNC, and every lane of a warp the same shuffle and mma, in the same order;
//   - no function has a name that NVIDIA's compilers know (ballot): theirs may be taken instead;
//   - no atomics on floating point values, no order that depends on timing: the same input gives the same bits;
//   - what must be bit-identical to the CPU uses mul, add, sub, div, sqrt_: rounded to nearest, never contracted to an FMA.
#pragma once

typedef unsigned short bf16;
typedef long long long64;
typedef unsigned long long ulong64;

// UNROLL: loops over arrays that are to lie in registers. ROLLED: loops that are seldom run, and shall be short.
#if defined(STANDIN)
#define UNROLL
#define ROLLED
#else
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#endif

#if defined(STANDIN)
#include "shim.h"
#else

#if defined(__clang__) && defined(__CUDA__) && !defined(__NVCC__)
#define GPU_GLOBAL __attribute__((global))
#define DEVICE static __attribute__((device)) inline __attribute__((always_inline))
#define GPU_SHARED __attribute__((shared)) __attribute__((aligned(16)))
#define GPU_BOUNDS(n) __attribute__((launch_bounds(n)))
#define TID __nvvm_read_ptx_sreg_tid_x()
#define BLOCK_X __nvvm_read_ptx_sreg_ctaid_x()
#define BLOCK_Y __nvvm_read_ptx_sreg_ctaid_y()
#define BLOCK_Z __nvvm_read_ptx_sreg_ctaid_z()
#define BLOCKS_X __nvvm_read_ptx_sreg_nctaid_x()
#define BLOCKS_Y __nvvm_read_ptx_sreg_nctaid_y()
#else
#define GPU_GLOBAL __global__
#define DEVICE static __device__ __forceinline__
#define GPU_SHARED __shared__ __align__(16)
#define GPU_BOUNDS(n) __launch_bounds__(n)
#define TID ((int)threadIdx.x)
#define BLOCK_X ((int)blockIdx.x)
#define BLOCK_Y ((int)blockIdx.y)
#define BLOCK_Z ((int)blockIdx.z)
#define BLOCKS_X ((int)gridDim.x)
#define BLOCKS_Y ((int)gridDim.y)
#endif

#define KERNEL(threads) extern "C" GPU_GLOBAL GPU_BOUNDS(threads)
#define GLOBAL(T) T*
#define SHARED(T, name, count) GPU_SHARED __attribute__((aligned(16))) T name[count]
#define SYNC() __syncthreads()

DEVICE float shfl_xor(float v, int m) { float y; asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;" : "=f"(y) : "f"(v), "r"(m)); return y; }
DEVICE unsigned shfl_xor_u(unsigned v, int m) { unsigned y; asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(y) : "r"(v), "r"(m)); return y; }
DEVICE float shfl(float v, int lane) { float y; asm volatile("shfl.sync.idx.b32 %0, %1, %2, 31, 0xffffffff;" : "=f"(y) : "f"(v), "r"(lane)); return y; }
DEVICE unsigned shfl_u(unsigned v, int lane) { unsigned y; asm volatile("shfl.sync.idx.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(y) : "r"(v), "r"(lane)); return y; }
DEVICE unsigned ballot_of(int p) { unsigned y; asm volatile("{.reg .pred q; setp.ne.s32 q, %1, 0; vote.sync.ballot.b32 %0, q, 0xffffffff;}" : "=r"(y) : "r"(p)); return y; }

// exact: what the protocol computes
DEVICE float mul(float a, float b) { float y; asm("mul.rn.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b)); return y; }
DEVICE float add(float a, float b) { float y; asm("add.rn.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b)); return y; }
DEVICE float sub(float a, float b) { float y; asm("sub.rn.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b)); return y; }
DEVICE float div(float a, float b) { float y; asm("div.rn.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b)); return y; }
DEVICE float sqrt_(float a) { float y; asm("sqrt.rn.f32 %0, %1;" : "=f"(y) : "f"(a)); return y; }
DEVICE float fma_(float a, float b, float c) { float y; asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(y) : "f"(a), "f"(b), "f"(c)); return y; }
// fast: what training computes; the stand-in's differ in the last bits
DEVICE float rsqrt_(float a) { float y; asm("rsqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(a)); return y; }
DEVICE float exp2_(float a) { float y; asm("ex2.approx.f32 %0, %1;" : "=f"(y) : "f"(a)); return y; }
DEVICE float log2_(float a) { float y; asm("lg2.approx.f32 %0, %1;" : "=f"(y) : "f"(a)); return y; }
DEVICE float rcp_(float a) { float y; asm("rcp.approx.f32 %0, %1;" : "=f"(y) : "f"(a)); return y; }

DEVICE unsigned bits(float a) { unsigned y; asm("mov.b32 %0, %1;" : "=r"(y) : "f"(a)); return y; }
DEVICE float float_of(unsigned a) { float y; asm("mov.b32 %0, %1;" : "=f"(y) : "r"(a)); return y; }

// Vectors in memory, at element i, which must be a multiple of their length: pairs of bf16 in one unsigned (the first in the low
// half), four unsigneds or floats in 16 bytes.
struct __attribute__((aligned(16))) u4 { unsigned x, y, z, w; };
struct __attribute__((aligned(16))) f4 { float x, y, z, w; };
DEVICE unsigned load_pair(const bf16* p, long64 i) { return *(const unsigned*)(p + i); }
DEVICE void store_pair(bf16* p, long64 i, unsigned v) { *(unsigned*)(p + i) = v; }
DEVICE u4 load8(const bf16* p, long64 i) { return *(const u4*)(p + i); }
DEVICE void store8(bf16* p, long64 i, u4 v) { *(u4*)(p + i) = v; }
DEVICE f4 load4(const float* p, long64 i) { return *(const f4*)(p + i); }
DEVICE void store4(float* p, long64 i, f4 v) { *(f4*)(p + i) = v; }

// mma: C (16×8, float32) += A (16×16) · B (16×8) over a warp, operands bfloat16, in the lane layout of PTX's mma.m16n8k16.
DEVICE void mma16816(float* c, const unsigned* a, const unsigned* b) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
    : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif

// What follows is the same for all compilers.

// bf16_of rounds to nearest even, every NaN to 0x7FC0, exact for subnormals: model/kern's RoundBF16.
DEVICE bf16 bf16_of(float x) {
  unsigned u = bits(x);
  if ((u & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FC0;
  return (bf16)((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
}
DEVICE float wide(bf16 h) { return float_of((unsigned)h << 16); }
DEVICE float low(unsigned pair) { return float_of(pair << 16); }
DEVICE float high(unsigned pair) { return float_of(pair & 0xFFFF0000u); }
DEVICE unsigned pair_of(float lo, float hi) { return (unsigned)bf16_of(lo) | (unsigned)bf16_of(hi) << 16; }

DEVICE float exp_(float x) { return exp2_(x * 1.44269504f); }

// sums over a warp and over a block of 32·warps threads, in an order that is always the same; every thread gets the result.
DEVICE float warp_sum(float v) {
  for (int m = 16; m; m >>= 1) v += shfl_xor(v, m);
  return v;
}
DEVICE float warp_max(float v) {
  for (int m = 16; m; m >>= 1) { float o = shfl_xor(v, m); v = o > v ? o : v; }
  return v;
}
