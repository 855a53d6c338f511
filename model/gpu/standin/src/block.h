// One block after another: its threads are fibers on one host thread. A thread runs until it meets a collective; a warp goes on when its
// 32 lanes have met the same one, the block when all its threads have. A fault leaves the block where it is and ends the launch.
#pragma once
#include "shim.h"
#include <sys/mman.h>
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>
#if !defined(__x86_64__) || defined(STANDIN_UCONTEXT)
#include <ucontext.h>
#endif

namespace standin {

Run run = {-1, 0, {}, {}, 1, 1, 1, 0, nullptr};
Slot slots[2][1024];
uint8_t turn[1024];
bool multiplied[2][32];
std::string trouble; // what a fault said, until it is fetched

// Fiber: a stack on which threads of a block run, one at a time.
struct Fiber {
  char* stack = nullptr;
#if defined(__x86_64__) && !defined(STANDIN_UCONTEXT)
  void* sp = nullptr;
#else
  ucontext_t context;
#endif
};
const size_t stack_bytes = 128 << 10;

#if defined(__x86_64__) && !defined(STANDIN_UCONTEXT)
extern "C" void sn3_standin_switch(void** save, void* to);
asm(".text\n.type sn3_standin_switch,@function\nsn3_standin_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");
#endif

// Met is where a thread waits.
struct Met {
  At at;
  const char* what;
  bool block;
};
enum State : char { fresh, waiting, ready, gone };

struct Scheduler {
  Fiber home;
  std::vector<Fiber*> spare;
  Fiber* fiber[1024];     // of a waiting thread
  Met met[1024];
  State state[1024];
  int waits[32];          // lanes of a warp that wait in a warp's collective
  int syncs, left;        // threads that wait in SYNC, that have returned
  const int* next;        // threads that the current fiber starts, up to end
  const int* end;
  Fiber* current;
  void (*body)(void**);
  void** args;
  bool failed;
} sched;

static void swap(Fiber* from, Fiber* to) {
#if defined(__x86_64__) && !defined(STANDIN_UCONTEXT)
  sn3_standin_switch(&from->sp, to->sp);
#else
  swapcontext(&from->context, &to->context);
#endif
}

static void fiber_main() {
  for (;;) {
    while (sched.next != sched.end) {
      int t = *sched.next++;
      run.thread = t;
      sched.body(sched.args);
      sched.state[run.thread] = gone;
      sched.left++;
    }
    sched.spare.push_back(sched.current);
    swap(sched.current, &sched.home);
  }
}

static void prepare(Fiber* f) {
#if defined(__x86_64__) && !defined(STANDIN_UCONTEXT)
  void** top = (void**)(f->stack + stack_bytes);
  *--top = nullptr; // a return address that nobody uses: the stack is aligned as after a call
  *--top = (void*)fiber_main;
  for (int i = 0; i < 6; i++) *--top = nullptr;
  f->sp = top;
#else
  getcontext(&f->context);
  f->context.uc_stack.ss_sp = f->stack;
  f->context.uc_stack.ss_size = stack_bytes;
  f->context.uc_link = nullptr;
  makecontext(&f->context, fiber_main, 0);
#endif
}

const size_t page = 4096; // below a stack, so that an overflow is not silent

// drop_fibers gives the stacks back: a process has a limit of mappings, and may load many stand-ins.
static void drop_fibers() {
  for (Fiber* f : sched.spare) {
    munmap(f->stack - page, stack_bytes + page);
    delete f;
  }
  sched.spare.clear();
}

static Fiber* take_fiber() {
  if (!sched.spare.empty()) {
    Fiber* f = sched.spare.back();
    sched.spare.pop_back();
    return f;
  }
  char* m = (char*)mmap(nullptr, stack_bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (m == MAP_FAILED) abort();
  mprotect(m, page, PROT_NONE);
  Fiber* f = new Fiber;
  f->stack = m + page;
  prepare(f);
  return f;
}

void fault(At at, const char* format, ...) {
  char text[512];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  const char* slash = at.file ? strrchr(at.file, '/') : nullptr;
  char where[512];
  snprintf(where, sizeof where, "kernel %s, block (%d, %d, %d), thread %d, %s:%d: ", run.kernel, run.block[0], run.block[1], run.block[2],
           run.thread, slash ? slash + 1 : at.file ? at.file : "?", at.line);
  trouble = std::string(where) + text;
  sched.failed = true;
  Fiber lost; // this thread never goes on
  swap(&lost, &sched.home);
  __builtin_unreachable();
}

void meet(At at, const char* what, bool block) {
  int t = run.thread;
  if (block) sched.syncs++;
  else sched.waits[t >> 5]++;
  sched.met[t] = {at, what, block};
  sched.state[t] = waiting;
  sched.fiber[t] = sched.current;
  swap(sched.current, &sched.home);
  sched.state[t] = ready;
  run.thread = t;
}

// resume lets a waiting thread run until it waits again or returns; false after a fault.
static bool resume(int t) {
  run.thread = t;
  sched.current = sched.fiber[t];
  swap(&sched.home, sched.current);
  return !sched.failed;
}

// start lets threads that have not begun run until each waits or has returned.
static bool start(const int* lanes, int n) {
  sched.next = lanes;
  sched.end = lanes + n;
  while (sched.next != sched.end) {
    sched.current = take_fiber();
    swap(&sched.home, sched.current);
    if (sched.failed) return false;
  }
  return true;
}

static bool differ(const Met& a, const Met& b) { 
  return a.at.line != b.at.line || (a.what != b.what && strcmp(a.what, b.what)) || (a.at.file != b.at.file && strcmp(a.at.file, b.at.file));
}

// mismatch reports threads that do not all wait at the same place.
static void mismatch(const int* list, int n) {
  int a = -1;
  for (int i = 0; i < n; i++)
    if (sched.state[list[i]] != gone) { a = list[i]; break; }
  char text[512];
  for (int i = 0; i < n; i++) {
    int b = list[i];
    if (sched.state[b] == gone) snprintf(text, sizeof text, "waits in %s, but thread %d has returned", sched.met[a].what, b);
    else if (differ(sched.met[a], sched.met[b])) snprintf(text, sizeof text, "waits in %s, but thread %d in %s in line %d", sched.met[a].what, b, sched.met[b].what, sched.met[b].at.line);
    else continue;
    run.thread = a;
    const char* slash = strrchr(sched.met[a].at.file, '/');
    char where[512];
    snprintf(where, sizeof where, "kernel %s, block (%d, %d, %d), thread %d, %s:%d: ", run.kernel, run.block[0], run.block[1], run.block[2], a,
             slash ? slash + 1 : sched.met[a].at.file, sched.met[a].at.line);
    trouble = std::string(where) + text;
    break;
  }
  sched.failed = true;
}

// drive runs a warp as far as it gets without the others: to SYNC or to its end.
static bool drive(const int* lanes, int n) {
  int w = lanes[0] >> 5;
  while (sched.waits[w]) {
    if (sched.waits[w] != n) return mismatch(lanes, n), false;
    for (int i = 1; i < n; i++)
      if (differ(sched.met[lanes[0]], sched.met[lanes[i]])) return mismatch(lanes, n), false;
    sched.waits[w] = 0;
    for (int i = 0; i < n; i++)
      if (!resume(lanes[i])) return false;
  }
  return true;
}

// multiply is mma.m16n8k16 in the lane layout of the PTX ISA, "Matrix Fragments for mma.m16n8k16": row of A and C is lane/4 (+ 8),
// column of B and C twice lane%4 (+ 1). Every sum goes along k in order, in float32.
void multiply(Slot* s) {
  float a[16][16], b[16][8];
  for (int l = 0; l < 32; l++)
    for (int e = 0; e < 8; e++) { // element e of a lane's 8 of A: register e/2, half e%2
      int row = l / 4 + e / 2 % 2 * 8, k = l % 4 * 2 + e % 2 + e / 4 * 8;
      a[row][k] = f(s[l].a[e / 2] >> (e % 2 * 16) << 16);
    }
  for (int l = 0; l < 32; l++)
    for (int e = 0; e < 4; e++) b[l % 4 * 2 + e % 2 + e / 2 * 8][l / 4] = f(s[l].b[e / 2] >> (e % 2 * 16) << 16);
  for (int row = 0; row < 16; row++) {
    float c[8];
    for (int col = 0; col < 8; col++) c[col] = s[row % 8 * 4 + col / 2].c[row / 8 * 2 + col % 2];
    for (int k = 0; k < 16; k++)
      for (int col = 0; col < 8; col++) c[col] += a[row][k] * b[k][col];
    for (int col = 0; col < 8; col++) s[row % 8 * 4 + col / 2].c[row / 8 * 2 + col % 2] = c[col];
  }
}

// run_block runs a block whose threads are listed in order, warp by warp; false after a fault, which is in trouble.
static bool run_block(const int* order, int n) {
  run.block_epoch = ++run.epoch;
  run.threads = n;
  run.shared_bytes = 0;
  sched.syncs = sched.left = 0;
  sched.failed = false;
  memset(sched.state, fresh, n);
  memset(sched.waits, 0, sizeof sched.waits);
  for (int w = 0; w < n; w += 32)
    if (!start(order + w, 32) || !drive(order + w, 32)) return false;
  while (sched.left < n) {
    if (sched.syncs != n) return mismatch(order, n), false;
    for (int i = 1; i < n; i++)
      if (differ(sched.met[order[0]], sched.met[order[i]])) return mismatch(order, n), false;
    sched.syncs = 0;
    run.epoch++;
    for (int w = 0; w < n; w += 32) {
      for (int i = 0; i < 32; i++)
        if (!resume(order[w + i])) return false;
      if (!drive(order + w, 32)) return false;
    }
  }
  return true;
}

// recover makes the fibers usable after a fault: those of threads that will not go on start anew.
static void recover(int n) {
  for (int t = 0; t < n; t++)
    if (sched.state[t] == waiting) { prepare(sched.fiber[t]); sched.spare.push_back(sched.fiber[t]); }
  if (std::find(sched.spare.begin(), sched.spare.end(), sched.current) == sched.spare.end()) {
    prepare(sched.current);
    sched.spare.push_back(sched.current);
  }
}

}  // namespace standin
