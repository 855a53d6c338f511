"""The worker's side of the protocol of scripts/bench: one JSON line when ready, then a line {"n": 3} in, {"seconds": ...} out."""
import json
import os
import sys
import time
import traceback

_out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print does not mix with the protocol


def _say(o):
    _out.write(json.dumps(o) + "\n")
    _out.flush()


def _forget_peak():
    try:
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    except OSError:
        pass


def _peak():
    try:
        with open("/proc/self/status") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0


def serve(prepare):
    """prepare() returns what to say when ready, the work of one turn in units, and the turn itself."""
    try:
        _forget_peak()
        ready, work, turn = prepare()
        _say(ready)
        for line in sys.stdin:
            n = json.loads(line)["n"]
            t = time.perf_counter()
            for _ in range(n):
                turn()
            _say({"seconds": time.perf_counter() - t, "work": work * n, "memory": _peak()})
    except Exception as e:  # the other side cannot see this process otherwise
        traceback.print_exc()
        _say({"error": f"{type(e).__name__}: {e}".splitlines()[0][:400]})
        sys.exit(1)
