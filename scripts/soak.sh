#!/bin/sh
# Long: a whole network while every process is killed in turn, SIGKILL, and started again by the launcher. The network must end
# with all nodes agreeing on every root. WINDOWS= and DIR= as for make up; VICTIMS= are the processes to kill, one every EVERY=
# windows. The default takes about three minutes.
set -u
dir=${DIR:-$(mktemp -d)/soak}
windows=${WINDOWS:-28}
every=${EVERY:-4}
victims=${VICTIMS:-miner-1 validator-2 validator-1 s3d chaind miner-2}
log=$dir.log
mkdir -p "$dir" && rmdir "$dir"
bin/localnet up --dir "$dir" --windows "$windows" >"$log" 2>&1 &
launcher=$!
pid_of() { sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" "$dir/runtime.json"; }
height() { n=$(grep -c '"kind":"applied"' "$dir/nodes/miner-1/data/events.jsonl" 2>/dev/null); echo "${n:-0}"; }
wait_for() { # windows applied by miner-1
  while kill -0 $launcher 2>/dev/null && [ "$(height)" -lt "$1" ]; do sleep 0.5; done
}
at=3
killed=
for victim in $victims; do
  wait_for $at
  pid=$(pid_of "$victim")
  [ -n "$pid" ] && kill -9 "$pid" && killed="$killed $victim@$((at - 1))" && echo "killed $victim (process $pid) after window $((at - 1))"
  at=$((at + every))
done
wait $launcher
status=$?
tail -n "${LINES_SHOWN:-60}" "$log"
echo "soak: killed$killed; exit status $status, folder $dir"
[ "$(echo $killed | wc -w)" = "$(echo $victims | wc -w)" ] || { echo "soak: not all of $victims could be killed"; status=1; }
exit $status
