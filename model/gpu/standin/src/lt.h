// A stand-in for cuBLASLt in the same library as that for the driver, whose memory, streams and settings it uses: the functions that
// package lt calls, as in NVIDIA's cublasLt.h. Everything it is given is checked. Sums go along k in float32, 8 at a time, then those
// sums: another order than that of our kernels. An algorithm that was not kept from adding parts of a sum in place or in the output's type
// gives other bits each time.
#pragma once

namespace standin {

enum { lt_ok = 0, lt_not_initialized = 1, lt_alloc_failed = 3, lt_invalid = 7, lt_arch = 8, lt_execution_failed = 13, lt_not_supported = 15 };
enum { f32 = 0, half = 14 }; // cudaDataType

struct Layout { int type; uint64_t rows, cols; int64_t ld; };
struct Desc { int trans[2]; };
struct Pref { uint64_t workspace, schemes, align[4]; };
struct Algo { // 64 bytes: what it is for
  uint64_t magic, m, n, k, lda, ldb, ldc;
  uint8_t trans[2], type, loose;
  uint32_t need; // workspace
};
static_assert(sizeof(Algo) == 64, "cublasLtMatmulAlgo_t");
struct Result { Algo algo; uint64_t workspace; int state; float waves; int reserved[4]; };
const uint64_t magic = 0x534E334C54ull;

// said gives the status, and the words of cublasLtGetStatusString.
static int said(int status, const char* format, ...) {
  char text[256];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  trouble = text;
  return status;
}

// status turns an error of the driver into one of the library.
static int status(int e) { return e == ok ? lt_ok : e == invalid_handle ? said(lt_invalid, "the stream is none") : lt_execution_failed; }

#define LT(context)                                                       \
  std::lock_guard<std::recursive_mutex> hold(standin::lock);              \
  if (int e = begin(__func__, false)) return e;                           \
  if (context && !current) return said(lt_not_initialized, "no context is current"); \
  if (context && sticky) return lt_execution_failed

// is says whether p is alive and of that kind: handle, layout, desc, pref.
static bool is(const void* p, const char* kind) {
  auto i = products.find(p);
  return i != products.end() && i->second == kind;
}
static int lost(const char* kind) { return said(lt_invalid, "the %s is none, or was destroyed", kind); }

template <class T>
static int keep(void** to, T* made, const char* kind) {
  products[*to = made] = kind;
  return lt_ok;
}
template <class T>
static int drop(void* p, const char* kind) {
  if (!is(p, kind)) return lost(kind);
  products.erase(p);
  delete (T*)p;
  return lt_ok;
}

// shape finds the sizes of D = op(A)·op(B) and says why they cannot be.
static int shape(const Desc& d, const Layout& a, const Layout& b, const Layout& c, Algo& to) {
  bool ta = d.trans[0], tb = d.trans[1];
  uint64_t m = ta ? a.cols : a.rows, k = ta ? a.rows : a.cols, k2 = tb ? b.cols : b.rows, n = tb ? b.rows : b.cols;
  if (a.type != half || b.type != half) return said(lt_not_supported, "factors of type %d and %d; only bf16 is known here", a.type, b.type);
  if (k != k2 || m != c.rows || n != c.cols)
    return said(lt_invalid, "%lux%lu by %lux%lu is not %lux%lu", m, k, k2, n, c.rows, c.cols);
  to = {magic, m, n, k, (uint64_t)a.ld, (uint64_t)b.ld, (uint64_t)c.ld, {(uint8_t)ta, (uint8_t)tb}, (uint8_t)c.type, 0, 0};
  return lt_ok;
}

struct Product { // one that was enqueued
  void* handle;
  Algo algo;
  float alpha, beta;
  uintptr_t a, b, c, workspace;
  uint64_t bytes; // of the workspace
};

static int blame(const std::string& what) {
  trouble = "cublasLtMatmul: " + what;
  return lose(illegal_address);
}

// Place is a column-major matrix in memory.
struct Place {
  const char* name;
  uintptr_t at;
  uint64_t rows, cols, ld, size;
  Region* region = nullptr;
  uint64_t bytes() const { return ((cols - 1) * ld + rows) * size; }
  bool meets(const Place& o) const { return at < o.at + o.bytes() && o.at < at + bytes(); }

  // find finds the part or the allocation that it is in, and says what is wrong.
  std::string find() {
    region = span(at, bytes(), name);
    if (!region) return trouble;
    if (Part* p = part_of(at)) region = &p->region;
    if (at - (uintptr_t)region->base + bytes() > region->size)
      return std::string(name) + " of " + std::to_string(bytes()) + " bytes at offset " + std::to_string(at - (uintptr_t)region->base) + " of " + of(region) + " of " + std::to_string(region->size);
    return "";
  }
  // unwritten says where a value was never written.
  std::string unwritten() const {
    for (uint64_t j = 0; j < cols; j++) {
      uint64_t off = at - (uintptr_t)region->base + j * ld * size;
      for (uint64_t g = off >> 1; g < (off + rows * size) >> 1; g++)
        if (!region->wrote[g]) return std::string(name) + " has a value at offset " + std::to_string(g * 2) + " of " + of(region) + " that was never written";
    }
    return "";
  }
  void write() const {
    for (uint64_t j = 0; j < cols; j++) fill_marks(*region, at - (uintptr_t)region->base + j * ld * size, rows * size, run.epoch << 11 | 1);
  }
};

static float widen(uint16_t h) { uint32_t u = (uint32_t)h << 16; float f; memcpy(&f, &u, 4); return f; }
static uint16_t narrow(float f) { // to nearest, halves to even
  uint32_t u;
  memcpy(&u, &f, 4);
  if (f != f) return (uint16_t)(u >> 16 | 0x40);
  return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

// factor copies op(X) as float32, one row of it for every k.
static std::vector<float> factor(uintptr_t at, uint64_t ld, bool rows_are_k, uint64_t n, uint64_t k) {
  std::vector<float> to(n * k);
  const uint16_t* x = (const uint16_t*)at;
  for (uint64_t l = 0; l < k; l++)
    for (uint64_t i = 0; i < n; i++) to[l * n + i] = widen(rows_are_k ? x[i * ld + l] : x[l * ld + i]);
  return to;
}

// multiply makes it; step is how many products are summed before their sum is added to the sums before.
static void multiply(const Product& p, uint64_t step) {
  const Algo& s = p.algo;
  std::vector<float> a = factor(p.a, s.lda, s.trans[0], s.m, s.k), b = factor(p.b, s.ldb, !s.trans[1], s.n, s.k), sum(s.m), part(s.m);
  for (uint64_t j = 0; j < s.n; j++) {
    std::fill(sum.begin(), sum.end(), 0.0f);
    for (uint64_t from = 0; from < s.k; from += step) {
      std::fill(part.begin(), part.end(), 0.0f);
      for (uint64_t l = from; l < std::min(s.k, from + step); l++) {
        const float y = b[l * s.n + j], *x = &a[l * s.m];
        for (uint64_t i = 0; i < s.m; i++) part[i] += x[i] * y;
      }
      for (uint64_t i = 0; i < s.m; i++) sum[i] += part[i];
    }
    for (uint64_t i = 0; i < s.m; i++) {
      float* c = (float*)p.c + j * s.ldc + i;
      uint16_t* h = (uint16_t*)p.c + j * s.ldc + i;
      float v = p.alpha * sum[i] + (p.beta == 0 ? 0 : p.beta * (s.type == half ? widen(*h) : *c));
      if (s.type == half) *h = narrow(v);
      else *c = v;
    }
  }
}

// run_product checks the memory of a product and makes it. Its workspace holds nothing afterwards.
static int run_product(const Product& p) {
  const Algo& s = p.algo;
  if (!is(p.handle, "handle")) return blame("the handle was destroyed");
  Place a{"the first factor", p.a, s.trans[0] ? s.k : s.m, s.trans[0] ? s.m : s.k, s.lda, 2}, b{"the second factor", p.b, s.trans[1] ? s.n : s.k, s.trans[1] ? s.k : s.n, s.ldb, 2},
      c{"the result", p.c, s.m, s.n, s.ldc, s.type == half ? 2ull : 4ull}, w{"the workspace", p.workspace, p.bytes, 1, p.bytes, 1};
  std::vector<Place*> all = {&a, &b, &c};
  if (p.bytes) all.push_back(&w);
  for (Place* x : all)
    if (std::string e = x->find(); !e.empty()) return blame(e);
  for (Place* x : all)
    for (Place* y : all)
      if (x < y && x->meets(*y) && !(x == &a && y == &b) && !(x == &b && y == &a)) return blame(std::string(x->name) + " and " + y->name + " overlap");
  for (Place* x : all)
    if (x != &w && (x != &c || p.beta != 0))
      if (std::string e = x->unwritten(); !e.empty()) return blame(e);
  static uint64_t calls_so_far;
  if (s.need) {
    memset((void*)w.at, 0xFF, s.need);
    fill_marks(*w.region, w.at - (uintptr_t)w.region->base, s.need, 0);
  }
  multiply(p, s.loose ? 1 + calls_so_far++ % 7 : 8);
  c.write();
  launched["cublasLtMatmul"]++;
  run.epoch++;
  return ok;
}

}  // namespace standin

extern "C" {
__attribute__((visibility("default"))) size_t cublasLtGetVersion() { std::lock_guard<std::recursive_mutex> hold(standin::lock); return settings.lt_version; }
__attribute__((visibility("default"))) const char* cublasLtGetStatusName(int s) {
  std::lock_guard<std::recursive_mutex> hold(standin::lock);
  if (begin(__func__, false)) return nullptr;
  static const std::map<int, const char*> names = {{1, "CUBLAS_STATUS_NOT_INITIALIZED"}, {3, "CUBLAS_STATUS_ALLOC_FAILED"}, {7, "CUBLAS_STATUS_INVALID_VALUE"}, {8, "CUBLAS_STATUS_ARCH_MISMATCH"},
      {11, "CUBLAS_STATUS_MAPPING_ERROR"}, {13, "CUBLAS_STATUS_EXECUTION_FAILED"}, {14, "CUBLAS_STATUS_INTERNAL_ERROR"}, {15, "CUBLAS_STATUS_NOT_SUPPORTED"}, {16, "CUBLAS_STATUS_LICENSE_ERROR"}};
  auto i = names.find(s);
  return i == names.end() ? "unrecognized status" : i->second;
}
__attribute__((visibility("default"))) const char* cublasLtGetStatusString(int s) {
  std::lock_guard<std::recursive_mutex> hold(standin::lock);
  if (begin(__func__, false)) return nullptr;
  static std::string text;
  text = trouble.empty() ? "stand-in's status " + std::to_string(s) : trouble;
  if (!sticky) trouble.clear();
  return text.c_str();
}
}

API cublasLtCreate(void** h) {
  LT(true);
  if (refuse()) return said(lt_alloc_failed, "the stream captures");
  return keep(h, new char, "handle");
}
API cublasLtDestroy(void* h) { LT(false); return drop<char>(h, "handle"); }

API cublasLtMatmulDescCreate(void** d, int compute, int scale) {
  LT(false);
  if (compute != 68 || scale != f32) return said(lt_invalid, "compute type %d with scale type %d; only CUBLAS_COMPUTE_32F with CUDA_R_32F is known here", compute, scale);
  return keep(d, new Desc{}, "desc");
}
API cublasLtMatmulDescDestroy(void* d) { LT(false); return drop<Desc>(d, "desc"); }
API cublasLtMatmulDescSetAttribute(void* d, int attr, const void* value, size_t n) {
  LT(false);
  if (!is(d, "desc")) return lost("desc");
  int32_t v;
  if ((attr != 3 && attr != 4) || n != sizeof v || !value) return said(lt_invalid, "attribute %d of a product, of %zu bytes", attr, n);
  memcpy(&v, value, n);
  if (v != 0 && v != 1) return said(lt_invalid, "operation %d", v);
  ((Desc*)d)->trans[attr - 3] = v;
  return lt_ok;
}

API cublasLtMatrixLayoutCreate(void** l, int type, uint64_t rows, uint64_t cols, int64_t ld) {
  LT(false);
  if ((type != f32 && type != half) || !rows || !cols || rows > INT32_MAX || cols > INT32_MAX || ld < (int64_t)rows)
    return said(lt_invalid, "a matrix of type %d, %lux%lu, columns %ld apart", type, rows, cols, ld);
  return keep(l, new Layout{type, rows, cols, ld}, "layout");
}
API cublasLtMatrixLayoutDestroy(void* l) { LT(false); return drop<Layout>(l, "layout"); }

API cublasLtMatmulPreferenceCreate(void** p) { LT(false); return keep(p, new Pref{0, 7, {256, 256, 256, 256}}, "pref"); }
API cublasLtMatmulPreferenceDestroy(void* p) { LT(false); return drop<Pref>(p, "pref"); }
API cublasLtMatmulPreferenceSetAttribute(void* p, int attr, const void* value, size_t n) {
  LT(false);
  if (!is(p, "pref")) return lost("pref");
  Pref* f = (Pref*)p;
  uint64_t* to = attr == 1 ? &f->workspace : attr == 3 ? &f->schemes : attr >= 5 && attr <= 8 ? &f->align[attr - 5] : nullptr;
  if (!to || !value || n != (attr == 1 ? 8u : 4u)) return said(lt_invalid, "attribute %d of a preference, of %zu bytes", attr, n);
  *to = 0;
  memcpy(to, value, n);
  return lt_ok;
}

API cublasLtMatmulAlgoGetHeuristic(void* h, void* d, void* a, void* b, void* c, void* to, void* pref, int most, Result* list, int* n) {
  LT(true);
  if (!is(h, "handle")) return lost("handle");
  if (!is(d, "desc")) return lost("desc");
  if (!is(pref, "pref")) return lost("pref");
  for (void* l : {a, b, c, to})
    if (!is(l, "layout")) return lost("layout");
  if (most < 1 || !list || !n) return said(lt_invalid, "room for %d algorithms", most);
  if (c != to) return said(lt_not_supported, "C and D differ");
  if (settings.cc < 80) return said(lt_not_supported, "no bf16 below compute capability 8.0");
  Algo algo;
  if (int e = shape(*(Desc*)d, *(Layout*)a, *(Layout*)b, *(Layout*)c, algo)) return e;
  Pref* f = (Pref*)pref;
  *n = 0;
  for (uint64_t x : f->align)
    if (x < 16) return lt_ok; // it has no algorithm for them
  if (algo.lda % settings.lt_align || algo.ldb % settings.lt_align) return lt_ok;
  algo.loose = (f->schemes & ~2ull) != 0;
  algo.need = (uint32_t)std::min<uint64_t>(f->workspace, 64 << 10) & ~255u;
  if (settings.lt_states && most > 1) { // an entry that is no good, first
    list[0] = Result{};
    list[0].state = lt_not_supported;
    *n = 1;
  }
  list[*n] = Result{algo, algo.need, lt_ok, 1.0f, {}};
  ++*n;
  return lt_ok;
}

API cublasLtMatmul(void* h, void* d, const float* alpha, const void* a, void* la, const void* b, void* lb, const float* beta, const void* c, void* lc, void* to, void* lto,
                   const Algo* algo, void* workspace, size_t bytes, void* stream) {
  LT(true);
  if (!is(h, "handle")) return lost("handle");
  if (!is(d, "desc")) return lost("desc");
  for (void* l : {la, lb, lc, lto})
    if (!is(l, "layout")) return lost("layout");
  if (!alpha || !beta || !algo) return said(lt_invalid, "alpha, beta or the algorithm is null");
  if (c != to || lc != lto) return said(lt_not_supported, "C and D differ");
  Algo want;
  if (int e = shape(*(Desc*)d, *(Layout*)la, *(Layout*)lb, *(Layout*)lc, want)) return e;
  want.loose = algo->loose;
  want.need = algo->need;
  if (memcmp(&want, algo, sizeof want)) return said(lt_invalid, "the algorithm is for another product");
  if (bytes < algo->need || (algo->need && (!workspace || (uintptr_t)workspace % 256)))
    return said(lt_invalid, "a workspace of %zu bytes at %p; the algorithm needs %u, at a multiple of 256", bytes, workspace, algo->need);
  for (const void* p : {a, b, c})
    if ((uintptr_t)p % 16) return said(lt_invalid, "a matrix at %p; the algorithm needs a multiple of 16", p);
  Product p{h, *algo, *alpha, *beta, (uintptr_t)a, (uintptr_t)b, (uintptr_t)c, (uintptr_t)workspace, bytes};
  return status(issue(stream, {[=] { return run_product(p); }}));
}
