# Steps of docs/chain.md and docs/WALLET.md on machines 1 to 4 (chain nodes), 5 (comes late), 6 (mines) and 7 (its owner's home). Sourced by
# scripts/chain-netns.sh, which says in which order.
rpc=$net.1:26657 # any node of the network
owner() { on 7 bin/sn3 --chain "$rpc" "$@" --keystore wallets/owner.json --passphrase-fd 3 3<"$dir/7/pass"; }

# typed FILE N COMMAND...: the command has a terminal, at which somebody types FILE; without the program script a file has the passphrase
typed() (
  text=$1; n=$2; shift 2
  if command -v script >/dev/null; then
    cd "$dir/$n" && ip netns exec "$id-$n" script -qec "$*" /dev/null <"$text" | tr -d '\r' | grep -v '^typed by'
  else
    echo "   skipped: no program script (package bsdutils) to have a terminal with; the passphrase comes from a file" >&2
    on "$n" "$@" --passphrase-file typed
  fi
)

wallets() {
  page docs/WALLET.md "at home"
  say "machine 7: a coldkey with words and a passphrase from a terminal, hotkeys, the network owner's key"
  (umask 077; echo a passphrase for a trial >"$dir/7/pass"; echo typed by a person >"$dir/7/typed")
  cat "$dir/7/typed" "$dir/7/typed" >"$dir/7/twice"
  pipe=
  command -v script >/dev/null || pipe=--to-pipe
  # shellcheck disable=SC2086 # a flag or nothing
  typed "$dir/7/twice" 7 bin/sn3 wallet new cold $pipe >"$dir/7/new.out"
  sed 's/^    .*/    (twelve words)/' "$dir/7/new.out"
  for w in hot validator miner owner; do on 7 bin/sn3 wallet new --light --no-words --passphrase-file pass $w >>"$dir/7/keys.out"; done

  page docs/WALLET.md "Words: what was written down, restored under another name, is the same account"
  (umask 077; sed -n 's/^    //p' "$dir/7/new.out" >"$dir/7/paper")
  on 7 bin/sn3 wallet restore again --light --mnemonic-fd 3 --passphrase-file typed 3<"$dir/7/paper" >"$dir/7/again.out"
  on 7 bin/sn3 wallet list
  [ "$(on 7 bin/sn3 wallet show cold)" = "$(on 7 bin/sn3 wallet show again)" ] || die "the words make another account"
  rm "$dir/7/wallets/again.json" "$dir/7/wallets/again.pub" "$dir/7/new.out"

  say "to the mining machine (6): cold.pub, and the hotkeys that work there; never cold.json"
  mkdir "$dir/6/wallets"
  cp "$dir/7/wallets/cold.pub" "$dir/7/wallets"/hot.* "$dir/7/wallets"/miner.* "$dir/7/wallets"/validator.* "$dir/6/wallets/"
  [ ! -e "$dir/6/wallets/cold.json" ] || die "cold.json is on the mining machine"
}

first_node() {
  page docs/chain.md "Nodes and validators: the genesis"
  cp "$dir/7/wallets"/*.pub "$dir/1/"
  mkdir "$dir/1/TEXT"
  i=0
  while [ $i -lt 2000 ]; do echo "{\"text\": \"line $i of what nobody has to learn, $((i * 7919 % 1000)) and $((i * 104729 % 997))\"}"; i=$((i + 1)); done >"$dir/1/TEXT/a.jsonl"
  on 1 bin/sn3 data pack TEXT -o data --held-out 1/4 >"$dir/1/pack.out" 2>&1
  tail -n 2 "$dir/1/pack.out"
  # For a trial: a bucket of machine 6's own S3 server, blocks of half a second, and windows of 16 of them, of which 8 are for scoring (docs/OPERATOR.md, Models).
  on 1 bin/sn3 preset local | sed 's/"schedule": {.*}/"schedule": {"first": 4, "length": 16, "lead": 2, "deadline": 3, "score_by": 11, "select": 12, "apply": 14}/' >"$dir/1/mine.json"
  on 1 bin/sn3 genesis --network trial --preset mine.json --data data --data-at local:data --block-time 500 --owner owner.pub \
    --seat validator.pub:1000 --seat miner.pub --account owner.pub:100000 --account cold.pub:50 --out genesis.json

  page docs/chain.md "Nodes and validators: the first node"
  on 1 bin/chaind init --home chain --genesis genesis.json --p2p-listen 0.0.0.0:26656 | tee "$dir/1/init.out"
  hash=$(field genesis <"$dir/1/init.out")
  [ -n "$hash" ] || die "chaind init prints no hash"
  node 1 --listen "$rpc" --s3-port 9000 --snapshot-every 40
  until_ "the first node makes blocks" at_least 1 2
  node_status 1 | cut -c1-120
}

# become N: the line that the node on machine N prints goes to the owner, who adds it
become() {
  line=$(node_status "$1" | field line)
  [ -n "$line" ] || die "chaind status on machine $1 prints no line"
  until_ "the owner adds machine $1" add
  voting=$(sed -n 's/.*it votes from block \([0-9]*\) on.*/\1/p' "$dir/7/add.out")
  until_ "machine $1 votes" at_least "$1" $((voting + 2)) # before that the validators from before must sign, however few
}
add() { owner chain validator add "$line" >"$dir/7/add.out" 2>"$dir/7/add.err" && cat "$dir/7/add.out"; } # refused while it is behind, or ten blocks are not over

three_join() {
  page docs/chain.md "Nodes and validators: another node; it becomes a validator"
  for n in 2 3 4; do
    listen=$net.$n:26657
    case $n in
    3)
      say "machine 3: from a copy of the genesis, without the API of another"
      peer=$(field peer <"$dir/2/join.out")
      cp "$dir/1/chain/genesis.sn3.json" "$dir/3/"
      on 3 bin/chaind init --home chain --genesis genesis.sn3.json --p2p-listen 0.0.0.0:26656 --peer "$peer" >"$dir/3/join.out"
      ;;
    *)
      say "machine $n: through the API of machine 1"
      on $n bin/chaind join --home chain --rpc "$rpc" --hash "$hash" --p2p-listen 0.0.0.0:26656 >"$dir/$n/join.out"
      ;;
    esac
    cut -c1-120 "$dir/$n/join.out"
    [ $n != 4 ] || listen=127.0.0.1:26657 # behind a proxy, later
    node $n --listen $listen --s3-port 9000 --snapshot-every 40
    until_ "machine $n follows" follows $n
    become $n
  done
  on 4 bin/sn3 --chain 127.0.0.1:26657 chain validators
  [ "$(voters 4)" = 4 ] || die "there are not four validators"
}

parameters() {
  page docs/chain.md "Parameters"
  owner chain set immunity_period 7200
  on 7 bin/sn3 --chain "$rpc" chain params | grep immunity_period
  on 7 bin/sn3 --chain "$rpc" chain log
}

money() {
  page docs/chain.md "Money: stake"
  owner stake add 0 100
  owner transfer wallets/validator.pub 1 # who has nothing but stake cannot pay a fee
  on 7 bin/sn3 --chain "$rpc" stake take 0 10 --keystore wallets/validator.json --passphrase-file pass # its own owner
  owner stake remove 0 50
  on 7 bin/sn3 --chain "$rpc" stake show wallets/owner.pub
  on 7 bin/sn3 --chain "$rpc" chain supply
}

shared_beacon() {
  page docs/chain.md "The beacon"
  say "the four make a key of their own"
  owner chain validator beacon
  until_ "all have dealt" making 4
  node_status 2 | sed -n '/^beacon/,/^peers/p' | grep -v ^peers
}
making() { [ "$(node_status 2 | grep -c 'has dealt$')" -ge "$1" ] || node_status 2 | grep -q 'next key'; }
beacon_signs() {
  until_ "the four sign the beacon" shared
  node_status 4 | sed -n '/^beacon/,/^peers/p' | grep -v ^peers
}
shared() { node_status 4 | grep -q '^beacon  *3 of 4 members sign'; }

one_away() {
  page docs/chain.md "When something breaks: killed"
  say "machine 1 is killed (SIGKILL): the other three go on"
  stop node1 KILL
  h=$(height 2)
  until_ "three go on" at_least 2 $((h + 6))
  node_status 2 | sed -n '/^validators/,/^line/p' | grep -v ^line
  say "machine 1 comes back and catches up"
  node 1 --listen "$rpc" --s3-port 9000 --snapshot-every 40
  until_ "machine 1 has caught up" at_least 1 $((h + 10))
  same $((h + 3)) 1 2 3 4
}

two_cut_off() {
  page docs/chain.md "When something breaks: connections between nodes break"
  say "two of four are cut off: nothing is decided"
  cable 3 down
  cable 4 down
  sleep 5 # what was on its way is over
  h=$(height 1)
  sleep 10
  [ "$(height 1)" -le $((h + 1)) ] || die "two of four made blocks"
  cable 3 up
  cable 4 up
  until_ "the four go on" at_least 1 $((h + 6))
  until_ "machine 4 too" at_least 4 $((h + 6))
  same $((h + 3)) 1 2 3 4
}
