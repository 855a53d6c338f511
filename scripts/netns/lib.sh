# Machines that are network namespaces of this one, joined by a switch, and what runs on them. Sourced by scripts/chain-netns.sh.
#
# A machine is a number N: its address is $net.N, its working folder $dir/N, in which bin/ has the programs, as the pages have it. A function
# with its body in ( ) keeps its variables to itself.
net=10.213.7 # inside the namespaces only
id=sn3-netns-$$
home=chain # the node's folder on each machine
pids=      # of what was started and not stopped yet

# page FILE, HEADING: what the steps that follow are from
page() { printf '\n######## %s, %s\n' "$1" "$2"; }
say() { printf '\n== %s\n' "$*"; }
die() { echo "chain-netns: $*" >&2; exit 1; }

# machines N...: makes them, and the switch between them
machines() {
  ip netns add "$id-0"
  ip -n "$id-0" link add br0 type bridge
  ip -n "$id-0" link set br0 up
  for n in "$@"; do
    ip netns add "$id-$n"
    ip -n "$id-$n" link set lo up
    ip -n "$id-$n" link add eth0 type veth peer name "to$n" netns "$id-0"
    ip -n "$id-0" link set "to$n" master br0 up
    ip -n "$id-$n" addr add "$net.$n/24" dev eth0
    ip -n "$id-$n" link set eth0 up
    mkdir "$dir/$n"
    ln -s "$bin" "$dir/$n/bin"
  done
}
cable() { ip -n "$id-0" link set "to$1" "$2"; } # cable N up|down

# on N COMMAND...: on machine N, in its folder
on() ( n=$1; shift; cd "$dir/$n" && exec ip netns exec "$id-$n" "$@" )

# service NAME N COMMAND...: as systemd would run it; its log is NAME.log in the machine's folder, its process $(pid NAME)
service() {
  name=$1; at=$2; shift 2
  (cd "$dir/$at" && exec ip netns exec "$id-$at" "$@" >>"$name.log" 2>&1 </dev/null) &
  pids="$pids $!"
  eval "pid_$name=$!"
}
pid() { eval "echo \"\${pid_$1:-}\""; }
ended() { case $(sed -n 's/^State:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null) in Z* | '') ;; *) return 1 ;; esac; } # also if nobody has waited for it

# stop NAME [SIGNAL]: ends a service and waits for it
stop() {
  p=$(pid "$1")
  [ -n "$p" ] || return 0
  kill "-${2:-TERM}" "$p" 2>/dev/null || true
  wait "$p" 2>/dev/null || true
  eval "pid_$1="
  left=
  for x in $pids; do [ "$x" = "$p" ] || left="$left $x"; done
  pids=$left
}

# node N FLAG...: chaind start on machine N
node() { m=$1; shift; service "node$m" "$m" bin/chaind start --home "$home" "$@"; }

# until_ WHAT COMMAND...: for a while (WAIT tries, a second apart)
until_() {
  what=$1; shift
  tries=${WAIT:-120}
  until "$@"; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || die "still not: $what"
    for p in $pids; do if ended "$p"; then die "process $p has ended; waited for: $what"; fi; done
    sleep 1
  done
}

# What a node says of itself.
node_status() ( n=$1; shift; on "$n" bin/chaind status --home "$home" "$@" )
flat() { node_status "$1" --json 2>/dev/null | tr -d ' \n'; }
height() { flat "$1" | sed -n 's/.*"height":\([0-9]*\),"time".*/\1/p'; }
at_least() { now=$(height "$1"); [ "${now:-0}" -ge "$2" ]; }
follows() { flat "$1" | grep -q '"catching_up":false'; }
field() { sed -n "s/^$1  *//p" | head -n 1; } # field NAME: of what chaind prints in lines
voters() { node_status "$1" | field validators; }

# same HEIGHT N...: the machines show the same block
same() (
  h=$1; shift
  first=$(block "$1" "$h")
  [ -n "$first" ] || die "machine $1 shows nothing of block $h"
  for n in "$@"; do [ "$(block "$n" "$h")" = "$first" ] || die "machine $n has another block $h than machine $1"; done
  echo "$first" | head -n 1
  echo "the same on machines $*"
)
block() { on "$1" bin/sn3 --chain "$(api "$1")" chain block "$2"; }
api() { sed -n 's/.*"addr":"\([^"]*\)".*/\1/p' "$dir/$1/$home/running.json"; } # where the node on machine N serves

# sweep: what a run that was killed left behind
sweep() {
  for f in /run/netns/sn3-netns-*; do
    [ -e "$f" ] || continue
    ns=${f##*/}; owner=${ns#sn3-netns-}; owner=${owner%-*}
    kill -0 "$owner" 2>/dev/null && continue
    for p in $(ip netns pids "$ns"); do kill -KILL "$p" 2>/dev/null || true; done
    ip netns del "$ns" && rm -rf "/etc/netns/$ns"
  done
  for d in "${TMPDIR:-/tmp}"/sn3-netns-*; do
    owner=${d##*/sn3-netns-}
    if [ -d "$d" ] && [ ! -e "$d/kept" ] && ! kill -0 "${owner%%.*}" 2>/dev/null; then rm -rf "$d"; fi
  done
}

# clean: at the end, however it comes
clean() {
  code=$?
  trap '' INT TERM HUP
  trap - EXIT
  [ $code = 0 ] || tails
  for p in $pids; do kill -CONT "$p" 2>/dev/null || true; kill "$p" 2>/dev/null || true; done
  tries=20
  for p in $pids; do
    while ! ended "$p" && [ $tries -gt 0 ]; do tries=$((tries - 1)); sleep 0.5; done
    kill -KILL "$p" 2>/dev/null || true
    wait "$p" 2>/dev/null || true
  done
  for f in /run/netns/"$id"-*; do
    [ -e "$f" ] || continue
    ns=${f##*/}
    for p in $(ip netns pids "$ns"); do kill -KILL "$p" 2>/dev/null || true; done
    ip netns del "$ns"
    rm -rf "/etc/netns/$ns"
  done
  [ -z "${etc:-}" ] || rmdir /etc/netns 2>/dev/null || true # if it was not there before
  if [ -n "${KEEP:-}" ]; then touch "$dir/kept"; echo "kept $dir"; else rm -rf "$dir"; fi
  exit $code
}
tails() { for f in "$dir"/*/*.log; do [ -s "$f" ] && { echo "--- end of ${f#"$dir"/}"; tail -n 5 "$f"; }; done 2>/dev/null || true; }
