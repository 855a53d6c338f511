// Streams, events, captures and graphs. Work is done at once, or (late=1) as late as the host's calls allow: a stream does what it has when
// somebody waits for it, other streams only what it waits for. So a copy from memory that changes before it is done, a result that is
// read too early, and a stream that does not wait for another one show.
#pragma once
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <random>

namespace standin {

enum { ok = 0, invalid_value = 1, out_of_memory = 2, not_initialized = 3, no_device = 100, invalid_device = 101, invalid_image = 200, invalid_context = 201,
       no_binary = 209, invalid_ptx = 218, unsupported_ptx = 222, invalid_handle = 400, not_found = 500, not_ready = 600, illegal_address = 700, out_of_resources = 701,
       launch_failed = 719, capture_unsupported = 900, capture_invalidated = 901, capture_merge = 902, capture_unmatched = 903, capture_unjoined = 904,
       capture_isolation = 905 };

// Work is one launch, fill or copy, or a graph; a copy from or to pinned memory names it.
struct Graph;
struct Work {
  std::function<int()> run;
  const char* reads = nullptr;
  char* writes = nullptr;
  size_t bytes = 0;
  std::shared_ptr<Graph> graph = nullptr;
};
struct Node { // of a graph: work that comes after that of other nodes
  Work work;
  std::vector<int> after;
};
struct Graph { std::vector<Node> nodes; };
using Front = std::set<int>; // the nodes that the next one of a captured stream comes after
struct Capture { Graph graph; void* origin; bool broken; };

struct Stream;
struct Point { // what an event has recorded: all that its stream was given before
  Stream* stream;
  bool done = false;
  std::chrono::steady_clock::time_point at;
};
struct Item { // of a stream's queue: work, or a point to reach, or another stream's to wait for
  Work work;
  std::shared_ptr<Point> reach, wait;
};
struct Stream {
  uint64_t number;
  std::deque<Item> queue;
  std::shared_ptr<Capture> capture;
  Front front;
};
struct Event {
  std::shared_ptr<Point> point; // null: never recorded
  std::shared_ptr<Capture> capture;
  Front front;
};

static thread_local std::shared_ptr<Capture> capturing; // that of this thread (CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), if any
static uint64_t streams_made;

// refuse is for calls that may not be made during a capture: they break it.
static int refuse() {
  if (!capturing) return ok;
  capturing->broken = true;
  return capture_unsupported;
}

static int drain(Stream* s);

// lose is for errors of work that no call can tell any more: they cost the context.
static int lose(int e) {
  if (!e || sticky) return sticky;
  faults++;
  return sticky = illegal_address;
}

static int do_item(Item& i) {
  if (i.wait) { // all that its stream has, up to it
    while (!i.wait->done && !i.wait->stream->queue.empty()) {
      Item first = std::move(i.wait->stream->queue.front());
      i.wait->stream->queue.pop_front();
      if (int e = do_item(first)) return e;
    }
    return ok;
  }
  if (i.reach) {
    i.reach->done = true;
    i.reach->at = std::chrono::steady_clock::now();
    return ok;
  }
  return sticky ? sticky : lose(i.work.run()); // the host has gone on
}

// drain does all that a stream has; after a fault the rest is dropped.
static int drain(Stream* s) {
  while (!s->queue.empty()) {
    Item i = std::move(s->queue.front());
    s->queue.pop_front();
    if (int e = do_item(i)) {
      for (Item& left : s->queue)
        if (left.reach) left.reach->done = true;
      s->queue.clear();
      if (i.reach) i.reach->done = true;
      return e;
    }
  }
  return ok;
}

// drain_all does everything, of the streams made last first.
static int drain_all() {
  std::vector<Stream*> list;
  for (void* s : streams) list.push_back((Stream*)s);
  std::sort(list.begin(), list.end(), [](Stream* a, Stream* b) { return a->number > b->number; });
  int first = ok;
  for (Stream* s : list)
    if (int e = drain(s)) first = first ? first : e;
  return first;
}

// is_pinned says whether n bytes of host memory lie in one pinned allocation.
static bool is_pinned(const void* host, size_t n) {
  auto i = pinned.upper_bound((uintptr_t)host);
  return i != pinned.begin() && (uintptr_t)host + n <= std::prev(i)->first + std::prev(i)->second;
}

// reads says whether work reads some of n bytes of host memory.
static bool reads(const Work& w, const char* p, size_t n) {
  if (w.graph)
    for (const Node& node : w.graph->nodes)
      if (reads(node.work, p, n)) return true;
  return w.reads && w.reads < p + n && p < w.reads + w.bytes;
}

// unknown makes host memory that work will write unlike what it was and what it will be, unless something has yet to read it.
static void unknown(const Work& w, const Work& all) {
  if (w.graph)
    for (const Node& node : w.graph->nodes) unknown(node.work, all);
  if (!w.writes || !is_pinned(w.writes, w.bytes) || reads(all, w.writes, w.bytes)) return;
  for (void* s : streams)
    for (const Item& i : ((Stream*)s)->queue)
      if (reads(i.work, w.writes, w.bytes)) return;
  memset(w.writes, 0xFF, w.bytes);
}

// issue does work now, later, or at the replay of the graph that its stream captures.
static int issue(void* stream, Work w) {
  if (stream && !streams.count(stream)) return invalid_handle;
  Stream* s = (Stream*)stream;
  if (s && s->capture) {
    auto& nodes = s->capture->graph.nodes;
    nodes.push_back({std::move(w), {s->front.begin(), s->front.end()}});
    s->front = {(int)nodes.size() - 1};
    return ok;
  }
  if (!s && capturing) return refuse();
  if (s && settings.late) {
    unknown(w, w);
    s->queue.push_back({std::move(w), nullptr, nullptr});
    return ok;
  }
  int e = w.run();
  return e && e == sticky && settings.async ? ok : e;
}

static int record(Event* e, Stream* s) {
  e->capture = s ? s->capture : nullptr;
  e->front = s ? s->front : Front();
  if (e->capture) return ok;
  e->point = std::make_shared<Point>(Point{s, false, {}});
  Item i{{}, e->point, nullptr};
  if (s && settings.late) s->queue.push_back(std::move(i));
  else do_item(i);
  return ok;
}

static int wait_for(Stream* s, Event* e) {
  if (e->capture) { // the stream is captured too from here on
    if (s->capture && s->capture != e->capture) return e->capture->broken = s->capture->broken = true, capture_merge;
    if (!s->capture) s->front.clear();
    s->capture = e->capture;
    s->front.insert(e->front.begin(), e->front.end());
    return ok;
  }
  if (s->capture) return s->capture->broken = true, trouble = "a captured stream waits for an event from outside of the capture", capture_isolation;
  if (e->point && !e->point->done) s->queue.push_back({{}, nullptr, e->point});
  return ok;
}

// joined says whether the work of all captured streams comes before the end of the first one.
static bool joined(const Graph& g, const Front& end) {
  std::vector<bool> seen(g.nodes.size());
  std::vector<int> todo(end.begin(), end.end());
  while (!todo.empty()) {
    int n = todo.back();
    todo.pop_back();
    if (seen[n]) continue;
    seen[n] = true;
    todo.insert(todo.end(), g.nodes[n].after.begin(), g.nodes[n].after.end());
  }
  return std::all_of(seen.begin(), seen.end(), [](bool b) { return b; });
}

// replay does a graph's work in the order of its capture or, late, each time what was captured last of what can come next. What fails then
// costs the context.
static int replay(const Graph& g) {
  std::vector<bool> done(g.nodes.size());
  for (int k = 0; k < (int)g.nodes.size(); k++) {
    int next = settings.late ? (int)g.nodes.size() - 1 : k;
    auto before = [&](int n) { return done[n]; };
    while (done[next] || !std::all_of(g.nodes[next].after.begin(), g.nodes[next].after.end(), before)) next--;
    done[next] = true;
    if (int e = lose(g.nodes[next].work.run())) return e;
  }
  return ok;
}

// host_gone says that pinned memory was freed before the copy was done.
static bool host_gone(const void* host, size_t n) {
  if (is_pinned(host, n)) return false;
  trouble = "a copy's pinned host memory was freed before it was done";
  return true;
}

// may_capture breaks the capture of a copy from or to host memory that is not pinned: it may be gone at the replay.
static bool may_capture(void* stream, const void* host, size_t n) {
  if (!stream || !streams.count(stream) || !((Stream*)stream)->capture || is_pinned(host, n)) return true;
  trouble = "a captured copy needs pinned host memory";
  refuse();
  return false;
}

}  // namespace standin
