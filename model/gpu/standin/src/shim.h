// What a kernel sees when g++ compiles it: device.h's names, each checked. A pointer knows the allocation (or the shared array) it
// came from; [] and the vector functions check bounds, alignment, that the memory was ever written, and that no other thread wrote it
// without a SYNC between. Threads are fibers (block.h) that switch only in SYNC, shuffles, ballot_of and mma.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace standin {

// At is a place in a kernel's source.
struct At {
  const char* file;
  int line;
};

// Region is an allocation of global memory or a shared array. Granules of 2 bytes (1 for shared arrays of bytes) have a mark of who
// wrote them last: epoch << 11 | thread + 1, and shared ones a mark of who read them last. 0 is: never written.
struct Region {
  char* base;
  uint64_t size;
  uint64_t *wrote, *read; // read is null for global memory
  int shift;              // log2 of a granule's bytes
  const char* name;       // of a shared array, else null
};

const uint64_t everybody = 2047; // as a mark's thread: several read it

// Run is the state of the launch that is running; launches come one at a time.
struct Run {
  int thread, threads;                 // of the block
  int block[3], blocks[3];             // in the grid
  uint64_t epoch;                      // grows at every SYNC, block and launch; never repeats
  uint64_t block_epoch, launch_epoch;  // the epoch when this block, this launch began
  uint64_t shared_bytes;               // of static shared memory that this block has met
  const char* kernel;
};
extern Run run;

[[noreturn]] void fault(At at, const char* format, ...);
void check_race(Region* r, char* p, unsigned n, bool write, const void* value, At at);
void meet(At at, const char* what, bool block); // waits for the warp, or the block

// Index is a subscript and the line that wrote it.
struct Index {
  int64_t i;
  At at;
  template <class U>
  Index(const U& u, const char* file = __builtin_FILE(), int line = __builtin_LINE()) : i((int64_t)u), at{file, line} {}
};

[[gnu::noinline, gnu::cold, noreturn]] void fault_bounds(Region* r, char* p, unsigned n, bool write, At at);
[[gnu::noinline, gnu::cold, noreturn]] void fault_aligned(Region* r, char* p, unsigned n, At at);

// check verifies an access of N bytes at p; value is what a write writes. The common cases are settled here: memory that no thread
// has written in this launch, shared memory written before the last SYNC, and this thread's own.
template <unsigned N, bool write>
static inline __attribute__((always_inline)) void check(Region* r, char* p, const void* value, At at) {
  if (!r || (uint64_t)(p - r->base) > r->size - N || r->size < N) fault_bounds(r, p, N, write, at);
  if ((uintptr_t)p & (N - 1)) fault_aligned(r, p, N, at);
  uint64_t first = (uint64_t)(p - r->base) >> r->shift, mine = run.epoch << 11 | (uint64_t)(run.thread + 1);
  unsigned count = N >> r->shift;
  uint64_t* wrote = r->wrote + first;
  bool plain = count > 0;
  if (r->read) {
    uint64_t *read = r->read + first, now = run.epoch << 11, block = run.block_epoch << 11;
    for (unsigned k = 0; k < count; k++) {
      if (write) plain &= (wrote[k] < now || wrote[k] == mine) & (read[k] < now || read[k] == mine);
      else plain &= (wrote[k] >= block && wrote[k] < now) | (wrote[k] == mine);
    }
    if (!plain) return check_race(r, p, N, write, value, at);
    for (unsigned k = 0; k < count; k++) {
      if (write) wrote[k] = mine;
      else read[k] = read[k] < now || read[k] == mine ? mine : now | everybody;
    }
    return;
  }
  uint64_t launch = run.launch_epoch << 11;
  for (unsigned k = 0; k < count; k++) plain &= (wrote[k] < launch && (write || wrote[k])) | (wrote[k] == mine);
  if (!plain) return check_race(r, p, N, write, value, at);
  if (write)
    for (unsigned k = 0; k < count; k++) wrote[k] = mine;
}

template <class T>
static inline T load(Region* r, char* p, At at) {
  check<sizeof(T), false>(r, p, nullptr, at);
  T v;
  std::memcpy(&v, p, sizeof(T));
  return v;
}
template <class T>
static inline void store(Region* r, char* p, T v, At at) {
  check<sizeof(T), true>(r, p, &v, at);
  std::memcpy(p, &v, sizeof(T));
}

// Ref is an element that may be read and written.
template <class T>
struct Ref {
  Region* r;
  char* p;
  At at;
  operator T() const { return load<T>(r, p, at); }
  Ref& operator=(T v) { store<T>(r, p, v, at); return *this; }
  Ref& operator=(const Ref& o) { return *this = (T)o; }
  template <class U> Ref& operator+=(U v) { return *this = (T)((T)*this + v); }
  template <class U> Ref& operator-=(U v) { return *this = (T)((T)*this - v); }
  template <class U> Ref& operator*=(U v) { return *this = (T)((T)*this * v); }
  template <class U> Ref& operator/=(U v) { return *this = (T)((T)*this / v); }
  template <class U> Ref& operator|=(U v) { return *this = (T)((T)*this | v); }
  template <class U> Ref& operator&=(U v) { return *this = (T)((T)*this & v); }
  template <class U> Ref& operator^=(U v) { return *this = (T)((T)*this ^ v); }
  template <class U> Ref& operator<<=(U v) { return *this = (T)((T)*this << v); }
  template <class U> Ref& operator>>=(U v) { return *this = (T)((T)*this >> v); }
  Ref& operator++() { return *this += 1; }
  Ref& operator--() { return *this -= 1; }
  T operator++(int) { T v = *this; *this = (T)(v + 1); return v; }
  T operator--(int) { T v = *this; *this = (T)(v - 1); return v; }
  void operator&() const = delete;
};

// Pointer is T* into one region.
template <class T>
struct Pointer {
  using V = std::remove_const_t<T>;
  Region* r = nullptr;
  char* p = nullptr;
  Pointer() = default;
  Pointer(decltype(nullptr)) {}
  Pointer(Region* r, char* p) : r(r), p(p) {}
  template <class U, class = std::enable_if_t<std::is_same<const U, T>::value>>
  Pointer(const Pointer<U>& o) : r(o.r), p(o.p) {}
  auto operator[](Index i) const {
    char* q = (char*)((uintptr_t)p + (uintptr_t)i.i * sizeof(T));
    if constexpr (std::is_const<T>::value) return load<V>(r, q, i.at);
    else return Ref<T>{r, q, i.at};
  }
  auto operator*() const { return (*this)[Index(0)]; }
  Pointer operator+(int64_t n) const { return Pointer(r, (char*)((uintptr_t)p + (uintptr_t)n * sizeof(T))); }
  Pointer operator-(int64_t n) const { return *this + -n; }
  Pointer& operator+=(int64_t n) { return *this = *this + n; }
  Pointer& operator-=(int64_t n) { return *this = *this - n; }
  int64_t operator-(Pointer o) const { return (p - o.p) / (int64_t)sizeof(T); }
  bool operator==(Pointer o) const { return p == o.p; }
  bool operator!=(Pointer o) const { return p != o.p; }
  bool operator<(Pointer o) const { return p < o.p; }
  explicit operator bool() const { return p != nullptr; }
  bool operator!() const { return p == nullptr; }
};

void enter_shared(Region* r, uint64_t* block, At at);

// Shared is an array of shared memory: one for all threads of a block, worth nothing before the block writes it.
template <class T, int64_t N>
struct Shared {
  Region region; // its memory comes with the first block
  uint64_t block = 0;
  constexpr Shared(const char* name) : region{nullptr, N * sizeof(T), nullptr, nullptr, sizeof(T) == 1 ? 0 : 1, name} {}
  void enter(At at) { if (block != run.block_epoch) enter_shared(&region, &block, at); }
  operator Pointer<T>() { return Pointer<T>(&region, region.base); }
  operator Pointer<const T>() { return Pointer<const T>(&region, region.base); }
  Pointer<T> operator+(int64_t n) { return Pointer<T>(*this) + n; }
  Ref<T> operator[](Index i) { return {&region, (char*)((uintptr_t)region.base + (uintptr_t)i.i * sizeof(T)), i.at}; }
};

// Slot is what a lane hands to its warp; one of two, by turns, so that a lane may run one collective ahead.
struct Slot {
  unsigned v, a[4], b[2];
  float c[4];
};
extern Slot slots[2][1024];
extern uint8_t turn[1024];
extern bool multiplied[2][32]; // whether a warp's product is already in c of its slots
void multiply(Slot* warp);

static inline unsigned exchange(unsigned v, int from, At at, const char* what) {
  int t = run.thread;
  Slot* s = slots[turn[t] ^= 1];
  s[t].v = v;
  meet(at, what, false);
  return s[(t & ~31) | (from & 31)].v;
}

static inline float f(unsigned u) { float y; std::memcpy(&y, &u, 4); return y; }
static inline unsigned u(float f) { unsigned y; std::memcpy(&y, &f, 4); return y; }

}  // namespace standin

#define AT_CALL const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define DEVICE static inline
#define KERNEL(threads) static
#define GLOBAL(T) standin::Pointer<T>
#define SHARED(T, name, count) \
  static standin::Shared<T, (count)> name(#name); \
  name.enter({__FILE__, __LINE__})
#define TID (standin::run.thread + 0)
#define BLOCK_X (standin::run.block[0] + 0)
#define BLOCK_Y (standin::run.block[1] + 0)
#define BLOCK_Z (standin::run.block[2] + 0)
#define BLOCKS_X (standin::run.blocks[0] + 0)
#define BLOCKS_Y (standin::run.blocks[1] + 0)
#define SYNC() standin::meet({__FILE__, __LINE__}, "SYNC", true)

DEVICE unsigned shfl_xor_u(unsigned v, int m, AT_CALL) { return standin::exchange(v, standin::run.thread ^ m, {file, line}, "shfl_xor"); }
DEVICE unsigned shfl_u(unsigned v, int lane, AT_CALL) { return standin::exchange(v, lane, {file, line}, "shfl"); }
DEVICE float shfl_xor(float v, int m, AT_CALL) { return standin::f(shfl_xor_u(standin::u(v), m, file, line)); }
DEVICE float shfl(float v, int lane, AT_CALL) { return standin::f(shfl_u(standin::u(v), lane, file, line)); }
DEVICE unsigned ballot_of(int p, AT_CALL) {
  int t = standin::run.thread;
  standin::Slot* s = standin::slots[standin::turn[t] ^= 1];
  s[t].v = p != 0;
  standin::meet({file, line}, "ballot_of", false);
  unsigned y = 0;
  for (int l = 0; l < 32; l++) y |= s[(t & ~31) | l].v << l;
  return y;
}

DEVICE float mul(float a, float b) { return a * b; }
DEVICE float add(float a, float b) { return a + b; }
DEVICE float sub(float a, float b) { return a - b; }
DEVICE float div(float a, float b) { return a / b; }
DEVICE float sqrt_(float a) { return std::sqrt(a); }
DEVICE float fma_(float a, float b, float c) { return std::fma(a, b, c); }
DEVICE float rsqrt_(float a) { return 1.0f / std::sqrt(a); }
DEVICE float exp2_(float a) { return std::exp2(a); }
DEVICE float log2_(float a) { return std::log2(a); }
DEVICE float rcp_(float a) { return 1.0f / a; }
DEVICE unsigned bits(float a) { return standin::u(a); }
DEVICE float float_of(unsigned a) { return standin::f(a); }

struct u4 { unsigned x, y, z, w; };
struct f4 { float x, y, z, w; };
DEVICE unsigned load_pair(GLOBAL(const bf16) p, standin::Index i) { return standin::load<unsigned>(p.r, (p + i.i).p, i.at); }
DEVICE void store_pair(GLOBAL(bf16) p, standin::Index i, unsigned v) { standin::store<unsigned>(p.r, (p + i.i).p, v, i.at); }
DEVICE u4 load8(GLOBAL(const bf16) p, standin::Index i) { return standin::load<u4>(p.r, (p + i.i).p, i.at); }
DEVICE void store8(GLOBAL(bf16) p, standin::Index i, u4 v) { standin::store<u4>(p.r, (p + i.i).p, v, i.at); }
DEVICE f4 load4(GLOBAL(const float) p, standin::Index i) { return standin::load<f4>(p.r, (p + i.i).p, i.at); }
DEVICE void store4(GLOBAL(float) p, standin::Index i, f4 v) { standin::store<f4>(p.r, (p + i.i).p, v, i.at); }

// mma16816: the first lane that goes on makes the product of the whole warp.
DEVICE void mma16816(float* c, const unsigned* a, const unsigned* b, AT_CALL) {
  int t = standin::run.thread, w = t >> 5, phase = standin::turn[t] ^= 1;
  standin::Slot* s = standin::slots[phase];
  std::memcpy(s[t].a, a, 16);
  std::memcpy(s[t].b, b, 8);
  std::memcpy(s[t].c, c, 16);
  standin::multiplied[phase][w] = false;
  standin::meet({file, line}, "mma16816", false);
  if (!standin::multiplied[phase][w]) standin::multiply(s + 32 * w);
  standin::multiplied[phase][w] = true;
  std::memcpy(c, s[t].c, 16);
}
#undef AT_CALL
