// Device memory: allocations with their marks, what is wrong with an access, and which allocation an address belongs to.
#pragma once
#include "block.h"
#include <map>

namespace standin {

struct Allocation {
  Region region;
  bool freed;
};
struct Part { // of an allocation, named by the program: accesses through a pointer into it stay in it
  Region region;
  std::string name;
};
std::map<uintptr_t, Part*> parts;             // by address; they do not overlap
std::map<uintptr_t, Allocation*> allocations; // by address; freed ones stay, so that their addresses are never used again
uint64_t live_bytes, live_count, peak_bytes, total_bytes = 16ull << 30;

static void* map_pages(size_t n) {
  void* p = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}

static void fill_marks(const Region& r, uint64_t off, uint64_t n, uint64_t value) {
  for (uint64_t k = off >> r.shift; k < (off + n + 1) >> r.shift; k++) r.wrote[k] = value;
}

// allocate returns 0 where the card has no n bytes left. Fresh memory is 0xFF: NaN as float and bf16, -1 as an integer.
static uintptr_t allocate(uint64_t n) {
  if (n > total_bytes - live_bytes) return 0;
  void* p = map_pages(n);
  void* marks = p ? map_pages((n / 2 + 1) * sizeof(uint64_t)) : nullptr;
  if (!marks) {
    if (p) munmap(p, n);
    return 0;
  }
  memset(p, 0xFF, n);
  allocations[(uintptr_t)p] = new Allocation{{(char*)p, n, (uint64_t*)marks, nullptr, 1, nullptr}, false};
  live_bytes += n;
  live_count++;
  peak_bytes = std::max(peak_bytes, live_bytes);
  return (uintptr_t)p;
}

// find returns the allocation that holds p, or ends there; it may be a freed one.
static Allocation* find(uintptr_t p) {
  auto i = allocations.upper_bound(p);
  if (i == allocations.begin()) return nullptr;
  Allocation* a = (--i)->second;
  return p - i->first <= a->region.size ? a : nullptr;
}

// part_of returns the part that holds p, or null.
static Part* part_of(uintptr_t p) {
  auto i = parts.upper_bound(p);
  if (i == parts.begin()) return nullptr;
  Part* a = (--i)->second;
  return p - i->first < a->region.size ? a : nullptr;
}

// forget_parts ends the parts that have something of n bytes at p.
static void forget_parts(uintptr_t p, uint64_t n) {
  auto i = parts.lower_bound(p);
  if (i != parts.begin() && std::prev(i)->first + std::prev(i)->second->region.size > p) --i;
  while (i != parts.end() && i->first < p + n) {
    delete i->second;
    i = parts.erase(i);
  }
}

// release frees the allocation that begins at p. Its addresses stay reserved: to use them is an error for ever.
static bool release(uintptr_t p) {
  auto i = allocations.find(p);
  if (i == allocations.end() || i->second->freed) return false;
  Region& r = i->second->region;
  forget_parts(p, r.size);
  munmap(r.wrote, (r.size / 2 + 1) * sizeof(uint64_t));
  mmap(r.base, r.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  i->second->freed = true;
  live_bytes -= r.size;
  live_count--;
  return true;
}

// span checks that n bytes at p are in one live allocation and returns it, or null with trouble set.
static Region* span(uintptr_t p, uint64_t n, const char* what) {
  Allocation* a = find(p);
  char text[256];
  if (!a) snprintf(text, sizeof text, "%s: address %#lx is in no allocation", what, (unsigned long)p);
  else if (a->freed) snprintf(text, sizeof text, "%s: address %#lx is in memory that was freed", what, (unsigned long)p);
  else if (n > a->region.size - (p - (uintptr_t)a->region.base))
    snprintf(text, sizeof text, "%s: %lu bytes at offset %lu of an allocation of %lu", what, (unsigned long)n,
             (unsigned long)(p - (uintptr_t)a->region.base), (unsigned long)a->region.size);
  else return &a->region;
  trouble = text;
  return nullptr;
}

// set_part names n bytes at p; what they held is no longer known.
static bool set_part(uintptr_t p, uint64_t n, const char* name) {
  Region* r = n && p % 16 == 0 ? span(p, n, "part") : nullptr;
  if (!r) return false;
  forget_parts(p, n);
  Part* made = new Part{{(char*)p, n, r->wrote + ((p - (uintptr_t)r->base) >> 1), nullptr, 1, nullptr}, name};
  made->region.name = made->name.c_str();
  fill_marks(made->region, 0, n, 0);
  memset((void*)p, 0xFF, n);
  parts[p] = made;
  return true;
}

// of says where an access went.
static std::string of(Region* r) { return r->read ? std::string("shared ") + r->name : r->name ? r->name : "an allocation"; }

void fault_bounds(Region* r, char* p, unsigned n, bool write, At at) {
  const char* verb = write ? "writes" : "reads";
  if (!r) fault(at, "%s %u bytes through a null pointer", verb, n);
  fault(at, "%s %u bytes at offset %ld of %s of %lu bytes", verb, n, (long)(p - r->base), of(r).c_str(), (unsigned long)r->size);
}

void fault_aligned(Region* r, char* p, unsigned n, At at) {
  fault(at, "%u bytes at offset %ld of %s, which is not aligned to %u", n, (long)(p - r->base), of(r).c_str(), n);
}

static void fault_race(Region* r, char* p, const char* verb, const char* other, uint64_t mark, At at) {
  uint64_t epoch = mark >> 11, thread = mark & everybody;
  char who[64];
  if (epoch < run.block_epoch) snprintf(who, sizeof who, "another block");
  else if (thread == everybody) snprintf(who, sizeof who, "several threads");
  else snprintf(who, sizeof who, "thread %lu", (unsigned long)thread - 1);
  fault(at, "%s at offset %ld of %s what %s %s without a SYNC between", verb, (long)(p - r->base), of(r).c_str(), who, other);
}

// check_race is the whole check of marks. A mark of this launch by another thread is a race unless a SYNC lies between, which is not
// possible between blocks; two that write the same value agree, whoever comes first.
void check_race(Region* r, char* p, unsigned n, bool write, const void* value, At at) {
  uint64_t first = (uint64_t)(p - r->base) >> r->shift, count = (n >> r->shift) + (n >> r->shift == 0);
  uint64_t mine = run.epoch << 11 | (uint64_t)(run.thread + 1);
  bool bytes = r->shift == 1 && n == 1; // two bytes share a mark: no word about races then
  for (uint64_t k = first; k < first + count; k++) {
    uint64_t w = r->wrote[k], epoch = w >> 11;
    bool written = r->read ? epoch >= run.block_epoch : w != 0;
    if (!written && !write) fault(at, "reads at offset %ld of %s, which was never written", (long)(p - r->base), of(r).c_str());
    bool other = written && epoch >= run.launch_epoch && w != mine && (epoch == run.epoch || epoch < run.block_epoch);
    if (other && !bytes && !(write && !memcmp(p, value, n))) fault_race(r, p, write ? "writes" : "reads", "wrote", w, at);
    if (r->read) {
      uint64_t& seen = r->read[k];
      bool now = seen >> 11 == run.epoch;
      if (write && now && seen != mine && memcmp(p, value, n)) fault_race(r, p, "writes", "read", seen, at);
      if (!write) seen = now && seen != mine ? run.epoch << 11 | everybody : mine;
    }
    if (write) r->wrote[k] = mine;
  }
}

// enter_shared begins a shared array in a block: what it held is no longer known.
void enter_shared(Region* r, uint64_t* block, At at) {
  if (!r->base) {
    r->base = (char*)aligned_alloc(16, (r->size + 15) & ~15ull);
    r->wrote = (uint64_t*)calloc(r->size, sizeof(uint64_t));
    r->read = (uint64_t*)calloc(r->size, sizeof(uint64_t));
  }
  memset(r->base, 0xFF, r->size);
  *block = run.block_epoch;
  run.shared_bytes += (r->size + 15) & ~15ull;
  if (run.shared_bytes > 48 << 10) fault(at, "%lu bytes of shared memory with %s; a block has %d", (unsigned long)run.shared_bytes, r->name, 48 << 10);
}

}  // namespace standin
