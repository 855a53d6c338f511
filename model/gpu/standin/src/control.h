// What tests turn: settings by name (from SN3_STANDIN_<NAME> when the library is loaded, or sn3StandinSet), faults on demand, counts.
#pragma once
#include "memory.h"
#include <memory>
#include <mutex>
#include <set>
#include <unistd.h>

namespace standin {

std::recursive_mutex lock; // every call of the driver

struct Settings {
  std::string order = "forward"; // of blocks; of warps too where it is random: forward, reverse, random
  uint64_t seed = 1;
  uint64_t oom = 0;     // fail this allocation, counted from the setting on; 0: none
  std::string fail;     // name:k:code fails the k-th call of a driver function, counted from the setting on
  int devices = 1, version = 13000, cc = 80, sms = 1;
  bool async = false;   // a kernel's fault is told by the next call, as on a card
  bool lost = false;    // after a call that was made to fail the context is lost, as after a fault
  bool late = false;    // streams do their work as late as they may (streams.h)
  uint64_t lt_version = 131000; // of cuBLASLt
  uint64_t lt_align = 1;        // it has algorithms only for factors whose leading dimensions are multiples of this
  bool lt_states = false;       // 1: its first algorithm is one that it cannot run
  std::string report;   // a file that gets the report when the last context is released; %p in its name becomes the process id
} settings;

std::map<std::string, uint64_t> calls; // of the driver, by name
std::map<std::string, uint64_t> launched; // by kernel
uint64_t allocations_asked, oom_base, fail_base;
std::string fail_name;
uint64_t fail_at;
int fail_code;
int sticky;                        // after a fault every call of the context fails with it
uint64_t faults;                   // of kernels
std::set<void*> modules, streams, events, graphs;
std::map<void*, std::shared_ptr<void>> execs; // instantiated graphs
std::map<const void*, std::string> products; // what cuBLASLt has made, and its kind
std::map<uintptr_t, size_t> pinned; // host memory, by address
int contexts;                      // references to the primary context

static bool set(const std::string& name, const std::string& value) {
  if (name == "order") {
    if (value != "forward" && value != "reverse" && value != "random") return false;
    settings.order = value;
  } else if (name == "seed") settings.seed = strtoull(value.c_str(), nullptr, 10);
  else if (name == "memory") total_bytes = strtoull(value.c_str(), nullptr, 10);
  else if (name == "devices") settings.devices = atoi(value.c_str());
  else if (name == "version") settings.version = atoi(value.c_str());
  else if (name == "cc") settings.cc = atoi(value.c_str());
  else if (name == "sms") settings.sms = atoi(value.c_str());
  else if (name == "async") settings.async = value == "1";
  else if (name == "lost") settings.lost = value == "1";
  else if (name == "late") settings.late = value == "1";
  else if (name == "lt_version") settings.lt_version = strtoull(value.c_str(), nullptr, 10);
  else if (name == "lt_align") settings.lt_align = std::max(1ull, strtoull(value.c_str(), nullptr, 10));
  else if (name == "lt_states") settings.lt_states = value == "1";
  else if (name == "report") settings.report = value;
  else if (name == "oom") {
    settings.oom = strtoull(value.c_str(), nullptr, 10);
    oom_base = allocations_asked;
  } else if (name == "fail") {
    size_t a = value.find(':'), b = value.rfind(':');
    fail_name = value.substr(0, a);
    fail_at = a == std::string::npos ? 0 : strtoull(value.c_str() + a + 1, nullptr, 10);
    fail_code = b == a ? 999 : atoi(value.c_str() + b + 1);
    fail_base = calls[fail_name];
  } else return false;
  return true;
}

// report is one JSON object: what is alive and what was called.
static std::string report() {
  auto list = [](const std::map<std::string, uint64_t>& m) {
    std::string s = "{";
    for (auto& e : m) s += (s.size() > 1 ? ", \"" : "\"") + e.first + "\": " + std::to_string(e.second);
    return s + "}";
  };
  auto n = [](uint64_t v) { return std::to_string(v); };
  return "{\"allocations\": " + n(live_count) + ", \"bytes\": " + n(live_bytes) + ", \"peak\": " + n(peak_bytes) + ", \"asked\": " + n(allocations_asked) +
         ", \"pinned\": " + n(pinned.size()) + ", \"modules\": " + n(modules.size()) + ", \"streams\": " + n(streams.size()) + ", \"events\": " + n(events.size()) +
         ", \"graphs\": " + n(graphs.size() + execs.size()) + ", \"contexts\": " + n(contexts) + ", \"products\": " + n(products.size()) + ", \"faults\": " + n(faults) + ", \"launches\": " + list(launched) + ", \"calls\": " + list(calls) + "}";
}

// write_report puts the report into the file of the setting, when the last context has been released.
static void write_report() {
  if (settings.report.empty()) return;
  std::string name = settings.report;
  if (size_t at = name.find("%p"); at != std::string::npos) name.replace(at, 2, std::to_string(getpid()));
  FILE* f = fopen(name.c_str(), "w");
  if (!f || fputs(report().c_str(), f) < 0 || fclose(f)) fprintf(stderr, "stand-in: the report cannot be written to %s\n", name.c_str());
}

// begin is what every driver call does first: count, and fail where a test wants it to.
static int begin(const char* name, bool needs_context) {
  uint64_t k = ++calls[name];
  if (fail_at && fail_name == name && k - fail_base == fail_at) {
    if (settings.lost) sticky = fail_code;
    return fail_code;
  }
  return needs_context ? sticky : 0;
}

struct Life { // of the library
  Life() {
    for (const char* name : {"order", "seed", "memory", "devices", "version", "cc", "sms", "async", "lost", "late", "report", "oom", "fail", "lt_version", "lt_align", "lt_states"}) {
      std::string key = "SN3_STANDIN_";
      for (const char* c = name; *c; c++) key += (char)toupper(*c);
      const char* v = getenv(key.c_str());
      if (v && !set(name, v)) fprintf(stderr, "stand-in: %s=%s is not understood\n", key.c_str(), v);
    }
  }
} life;

}  // namespace standin

extern "C" {
// sn3StandinSet changes a setting; 0, or 1 where name or value is unknown.
__attribute__((visibility("default"))) int sn3StandinSet(const char* name, const char* value) {
  std::lock_guard<std::recursive_mutex> hold(standin::lock);
  return standin::set(name, value) ? 0 : 1;
}
// sn3StandinReport writes the report, cut to n bytes with its zero, and returns its length.
__attribute__((visibility("default"))) int sn3StandinReport(char* to, int n) {
  std::lock_guard<std::recursive_mutex> hold(standin::lock);
  std::string s = standin::report();
  if (n > 0) snprintf(to, n, "%s", s.c_str());
  return (int)s.size();
}
}
