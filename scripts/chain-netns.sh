#!/bin/sh
# Does what docs/chain.md says, "Four machines", word by word on four machines that are network namespaces of this one, joined by a
# bridge. It needs root, ip (iproute2) and the programs in BIN (default bin); it leaves nothing behind but its folder, if KEEP is set.
#
#   sudo sh scripts/chain-netns.sh [BIN]
set -eu
bin=$(cd "${1:-bin}" && pwd)
for p in chaind sn3; do [ -x "$bin/$p" ] || { echo "chain-netns: there is no $bin/$p: run make build" >&2; exit 2; }; done
[ "$(id -u)" = 0 ] || { echo "chain-netns: network namespaces need root" >&2; exit 2; }
command -v ip >/dev/null || { echo "chain-netns: ip is missing (package iproute2)" >&2; exit 2; }
dir=$(mktemp -d)
id=sn3-$$
net=10.213.7 # inside the namespaces only
pids=
clean() {
  status=$?
  for p in $pids; do kill "$p" 2>/dev/null || true; done
  for p in $pids; do wait "$p" 2>/dev/null || true; done
  for n in 0 1 2 3 4; do ip netns del "$id-$n" 2>/dev/null || true; done
  if [ $status != 0 ]; then for n in 1 2 3 4; do echo "--- end of machine $n's log"; tail -n 5 "$dir/$n/log" 2>/dev/null || true; done; fi
  if [ -n "${KEEP:-}" ]; then echo "kept $dir"; else rm -rf "$dir"; fi
  exit $status
}
trap clean EXIT
trap 'exit 130' INT TERM

say() { echo "== $*"; }
# on N COMMAND...: on machine N, in its folder, with bin/ where the page has it
on() { n=$1; shift; (cd "$dir/$n" && exec ip netns exec "$id-$n" "$@"); }
start() { # N FLAG...: as a service would
  n=$1; shift
  (cd "$dir/$n" && exec ip netns exec "$id-$n" bin/chaind start --home chain "$@" >>log 2>&1) &
  pids="$pids $!"
  eval "pid$n=$!"
}
field() { sed -n "s/^$1  *//p"; }
height() { on "$1" bin/chaind status --home chain --json 2>/dev/null | tr -d ' \n' | sed -n 's/.*"height":\([0-9]*\).*/\1/p'; }
# until_ WHAT COMMAND...: for a while
until_() {
  what=$1; shift
  left=${WAIT:-120}
  until "$@"; do left=$((left - 1)); [ $left -gt 0 ] || { echo "chain-netns: still not: $what" >&2; told; exit 1; }; sleep 1; done
}
told() { for n in 1 2 3 4; do echo "--- machine $n"; on $n bin/chaind status --home chain 2>&1 | cut -c1-120 || true; done; } # what each says of itself
at_least() { now=$(height "$1"); [ "${now:-0}" -ge "$2" ]; }
follows() { on "$1" bin/chaind status --home chain --json 2>/dev/null | tr -d ' \n' | grep -q '"catching_up":false'; }
add() { on 1 bin/sn3 --chain "$net.1:26657" chain validator add "$line" --keystore owner.json --passphrase-file pass >add.out && cat add.out; }

say "four machines at $net.1 to $net.4, and a switch"
ip netns add "$id-0"
ip -n "$id-0" link add br0 type bridge
ip -n "$id-0" link set br0 up
for n in 1 2 3 4; do
  ip netns add "$id-$n"
  ip -n "$id-$n" link set lo up
  ip -n "$id-$n" link add eth0 type veth peer name "to$n" netns "$id-0"
  ip -n "$id-0" link set "to$n" master br0 up
  ip -n "$id-$n" addr add "$net.$n/24" dev eth0
  ip -n "$id-$n" link set eth0 up
  mkdir "$dir/$n"
  ln -s "$bin" "$dir/$n/bin"
done

say "the owner's key, two wallets, a dataset, the genesis"
cd "$dir/1"
(umask 077; echo a passphrase for a trial >pass)
for w in owner validator miner; do on 1 bin/sn3 wallet new --light --no-words --dir . --passphrase-file pass $w >$w.out; done
mkdir text
i=0; while [ $i -lt 500 ]; do echo "{\"text\": \"line $i of what nobody has to learn, $((i * 7919 % 1000)) and $((i * 104729 % 997))\"}"; i=$((i + 1)); done >text/a.jsonl
on 1 bin/sn3 data pack text -o data --held-out 1/4
on 1 bin/sn3 genesis --network trial --preset local --data data --data-at s3:us-east-1/bucket --block-time 500 --owner owner.pub --seat validator.pub:1000 --seat miner.pub --account owner.pub:100000 --out genesis.json

say "machine 1: the first node"
on 1 bin/chaind init --home chain --genesis genesis.json --p2p-listen 0.0.0.0:26656 >init.out
cat init.out
hash=$(field genesis <init.out)
start 1 --listen "$net.1:26657"
until_ "the first node makes blocks" at_least 1 2

for n in 2 3 4; do
  if [ $n != 3 ]; then
    say "machine $n: join through the API of machine 1"
    on $n bin/chaind join --home chain --rpc "$net.1:26657" --hash "$hash" --p2p-listen 0.0.0.0:26656 >"$dir/$n/join.out"
  else
    say "machine $n: from a copy of the genesis, without the API of another"
    cp "$dir/1/chain/genesis.sn3.json" "$dir/$n/genesis.json"
    on $n bin/chaind init --home chain --genesis genesis.json --p2p-listen 0.0.0.0:26656 --peer "$peer" >"$dir/$n/join.out"
  fi
  cat "$dir/$n/join.out"
  peer=$(sed -n 's/^peer  *//p' "$dir/2/join.out" | head -n 1)
  start $n --listen 127.0.0.1:26657
  until_ "machine $n follows" follows $n
  line=$(on $n bin/chaind status --home chain | sed -n 's/^line  *//p')
  [ -n "$line" ] || { echo "chain-netns: chaind status of machine $n prints no line" >&2; on $n bin/chaind status --home chain; exit 1; }
  until_ "the owner adds machine $n" add
  from=$(sed -n 's/.*it votes from block \([0-9]*\) on.*/\1/p' add.out)
  until_ "machine $n votes" at_least $n $((from + 2)) # before that the validators from before must sign, however few
done
on 4 bin/sn3 --chain 127.0.0.1:26657 chain validators
[ "$(on 4 bin/chaind status --home chain | sed -n 's/^validators  *//p' | head -n 1 | cut -d' ' -f1)" = 4 ] || { echo "chain-netns: there are not four validators" >&2; exit 1; }

say "one of four is away: the others go on"
kill "$pid1"
wait "$pid1" 2>/dev/null || true
h=$(height 2)
until_ "three go on" at_least 2 $((h + 6))

say "machine 1 comes back and catches up"
start 1 --listen "$net.1:26657"
until_ "machine 1 has caught up" at_least 1 $((h + 10))

say "two of four are cut off: nothing is decided"
ip -n "$id-0" link set to3 down
ip -n "$id-0" link set to4 down
sleep 5
h=$(height 1)
sleep 10
[ "$(height 1)" -le $((h + 1)) ] || { echo "chain-netns: two of four made blocks" >&2; exit 1; }
ip -n "$id-0" link set to3 up
ip -n "$id-0" link set to4 up
until_ "the four go on" at_least 1 $((h + 6))
until_ "machine 4 too" at_least 4 $((h + 6))
block() { on "$1" bin/sn3 --chain "$2" chain block $((h + 3)); }
block 1 "$net.1:26657" >"$dir/block"
[ -s "$dir/block" ] || { echo "chain-netns: machine 1 shows nothing of block $((h + 3))" >&2; exit 1; }
for n in 2 3 4; do block $n 127.0.0.1:26657 | cmp - "$dir/block"; done
echo "block $((h + 3)) is the same on all four"
cat "$dir/block"
say "done"
