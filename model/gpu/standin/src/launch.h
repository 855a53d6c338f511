// Launches and copies: what streams do, and what is loaded.
#pragma once
#include "streams.h"

namespace standin {

struct Function { // of a module
  const Kernel* kernel;
  bool unloaded;
};
struct Module {
  std::set<std::string> entries;
  std::vector<std::shared_ptr<Function>> functions;
};
static std::map<void*, std::shared_ptr<Function>> functions; // all that ever were: a handle is never used again

// orders lists 0..n-1 as the setting says; with warps the lanes of a warp stay together.
static std::vector<int> orders(int n, std::mt19937_64& random, bool threads) {
  std::vector<int> list(n);
  for (int i = 0; i < n; i++) list[i] = i;
  if (settings.order == "reverse") std::reverse(list.begin(), list.end());
  if (settings.order != "random") return list;
  if (!threads) {
    std::shuffle(list.begin(), list.end(), random);
    return list;
  }
  std::vector<int> warps(n / 32);
  for (int i = 0; i < n / 32; i++) warps[i] = i;
  std::shuffle(warps.begin(), warps.end(), random);
  for (int i = 0; i < n; i++) list[i] = warps[i / 32] * 32 + i % 32;
  for (int w = 0; w < n; w += 32) std::shuffle(list.begin() + w, list.begin() + w + 32, random);
  return list;
}

struct Launch {
  std::shared_ptr<Function> function;
  const Kernel* kernel;
  int grid[3];
  uint64_t values[16]; // the arguments, as they were at the launch
};

static int run_launch(const Launch& l) {
  if (l.function->unloaded) {
    trouble = std::string("kernel ") + l.kernel->name + " is of a module that was unloaded";
    return lose(illegal_address);
  }
  Pointer<char> pointers[16];
  void* args[16];
  for (int i = 0; i < l.kernel->count; i++) {
    args[i] = (void*)&l.values[i];
    if (l.kernel->kinds[i] != 'p') continue;
    args[i] = &pointers[i];
    if (!l.values[i]) continue;
    std::string what = std::string("kernel ") + l.kernel->name + ", argument " + std::to_string(i);
    Region* r = span(l.values[i], 0, what.c_str());
    if (!r) return lose(illegal_address);
    if (Part* part = part_of(l.values[i])) r = &part->region;
    pointers[i] = {r, (char*)l.values[i]};
  }
  uint64_t count = (uint64_t)l.grid[0] * l.grid[1] * l.grid[2];
  if (count > 1 << 28) return trouble = "too many blocks for the stand-in", out_of_resources;
  launched[l.kernel->name]++;
  run.kernel = l.kernel->name;
  run.launch_epoch = ++run.epoch;
  for (int i = 0; i < 3; i++) run.blocks[i] = l.grid[i];
  sched.body = l.kernel->body;
  sched.args = args;
  std::mt19937_64 random(settings.seed * 1000003 + run.launch_epoch);
  std::vector<int> threads = orders(l.kernel->threads, random, true), blocks = orders((int)count, random, false);
  for (int b : blocks) {
    run.block[0] = b % l.grid[0];
    run.block[1] = b / l.grid[0] % l.grid[1];
    run.block[2] = b / l.grid[0] / l.grid[1];
    if (settings.order == "random") threads = orders(l.kernel->threads, random, true);
    if (run_block(threads.data(), l.kernel->threads)) continue;
    recover(l.kernel->threads);
    return lose(illegal_address);
  }
  run.epoch++;
  return ok;
}

static int copy_in(uintptr_t to, const void* from, uint64_t n) {
  Region* r = span(to, n, "copy to the device");
  if (!r) return invalid_value;
  memcpy((void*)to, from, n);
  fill_marks(*r, to - (uintptr_t)r->base, n, run.epoch << 11 | 1);
  run.epoch++;
  return ok;
}
static int copy_out(void* to, uintptr_t from, uint64_t n) {
  if (!span(from, n, "copy from the device")) return invalid_value;
  memcpy(to, (void*)from, n);
  return ok;
}
static int copy_within(uintptr_t to, uintptr_t from, uint64_t n) {
  Region *a = span(to, n, "copy on the device, to"), *b = a ? span(from, n, "copy on the device, from") : nullptr;
  if (!b) return invalid_value;
  memmove((void*)to, (void*)from, n);
  uint64_t ka = (to - (uintptr_t)a->base) >> 1, kb = (from - (uintptr_t)b->base) >> 1;
  memmove(a->wrote + ka, b->wrote + kb, (n + 1) / 2 * sizeof(uint64_t));
  run.epoch++;
  return ok;
}
static int fill(uintptr_t to, unsigned char value, uint64_t n) {
  Region* r = span(to, n, "fill");
  if (!r) return invalid_value;
  memset((void*)to, value, n);
  fill_marks(*r, to - (uintptr_t)r->base, n, run.epoch << 11 | 1);
  run.epoch++;
  return ok;
}

// entries_of finds the names of an image's kernels; an image that begins with "// standin" has all of them.
static std::set<std::string> entries_of(const std::string& image) {
  std::set<std::string> names;
  if (image.rfind("// standin", 0) == 0)
    for (const Kernel& k : table) names.insert(k.name);
  const std::string mark = ".entry ";
  for (size_t at = 0; (at = image.find(mark, at)) != std::string::npos;) {
    at += mark.size();
    names.insert(image.substr(at, image.find('(', at) - at));
  }
  return names;
}

// loads says why the image's PTX cannot be loaded here, as the driver would: version, target.
static int loads(const std::string& image) {
  if (image.rfind("// standin", 0) == 0) return ok;
  size_t v = image.find("\n.version "), t = image.find("\n.target sm_");
  if (v == std::string::npos || t == std::string::npos) return invalid_ptx;
  int major = 0, minor = 0, target = 0;
  char exact = 0;
  sscanf(image.c_str() + v + 10, "%d.%d", &major, &minor);
  sscanf(image.c_str() + t + 12, "%d%c", &target, &exact);
  if ((major + 4) * 1000 + minor * 10 > settings.version) return unsupported_ptx; // PTX 8.0 came with CUDA 12.0
  if (exact == 'a' ? target != settings.cc : target > settings.cc) return no_binary;
  return ok;
}

}  // namespace standin
