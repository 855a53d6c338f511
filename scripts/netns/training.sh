# A validator and two miners on machine 6, which name three of the four chain nodes. Sourced by scripts/chain-netns.sh.
three=$net.1:26657,$net.2:26657,$net.3:26657

# An S3 server for the trial, on machine 6; --s3-port of the nodes tells everybody its port. A network of several machines has buckets of a provider.
buckets() {
  say "machine 6: an S3 server, and the dataset in it as it is"
  secret=$(head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \n')
  list=
  for b in data validator miner hot; do list="$list${list:+, }{\"bucket\": \"$b\", \"access_key\": \"key-$b\", \"secret\": \"$secret\"}"; done
  (umask 077; echo "[$list]" >"$dir/6/accounts.json"; echo "$secret" >"$dir/6/s3.secret"; echo "user = \"key-data:$secret\"" >"$dir/6/curl")
  service s3d 6 bin/s3d run --dir s3 --listen 127.0.0.1:9000 --accounts accounts.json
  until_ "the S3 server answers" on 6 curl -s -o /dev/null http://127.0.0.1:9000/
  cp -r "$dir/1/data" "$dir/6/data"
  (cd "$dir/6/data" && find . -type f) | while read -r f; do
    on 6 curl -sf -K curl --aws-sigv4 aws:amz:us-east-1:s3 -H "x-amz-content-sha256: $(sha256sum "$dir/6/data/$f" | cut -d' ' -f1)" -T "data/$f" "http://127.0.0.1:9000/data/${f#./}" </dev/null
  done
}

register_hot() {
  page docs/WALLET.md "at home: what registration costs; there: register"
  typed "$dir/7/typed" 7 bin/sn3 --chain "$rpc" transfer wallets/hot.pub 2 --keystore wallets/cold.json
  cp "$dir/7/pass" "$dir/6/pass"
  on 6 bin/sn3 --chain "$rpc" register --keystore wallets/hot.json --coldkey wallets/cold.pub --passphrase-file pass
}

train() {
  buckets
  register_hot
  page docs/VALIDATOR.md "and docs/MINER.md, several chain nodes: a validator and two miners that name machines 1, 2 and 3"
  mkdir "$dir/6/credentials" # as LoadCredential=sn3-passphrase:… of systemd makes it
  cp "$dir/6/pass" "$dir/6/credentials/sn3-passphrase"
  for w in validator miner hot; do
    program=miner
    [ $w != validator ] || program=validator
    service $w 6 env CREDENTIALS_DIRECTORY="$dir/6/credentials" bin/$program --chain "$three" --keystore wallets/$w.json --bucket local:$w \
      --s3-access-key key-$w --s3-secret-file s3.secret --dir $w --threads 1
  done
  until_ "two windows are scored" scored 2
  on 6 bin/sn3 --chain "$three" status
}

# What the validator's diary says.
diary() { cat "$dir/6/$1/events.jsonl" 2>/dev/null || true; }
scored() { [ "$(voted)" -ge "$1" ]; }
voted() { diary validator | grep '"kind":"scored"' | grep -c '"scores":{' || true; } # windows with submissions that the validator voted on

# fails_over WHAT NODE HURT: HURT happens to the chain node NODE; whoever followed it must say within 5 s that it follows another, and work goes on
fails_over() {
  say "$1: the validator and the miners go on with another node"
  windows=$(voted)
  those=
  for w in validator miner hot; do [ "$(followed $w)" != "$2" ] || those="$those $w"; done
  echo "machine 6 follows it with:${those:- none}"
  from=$(date -u +%Y-%m-%dT%H:%M:%S.%N)
  $3
  for w in $those; do
    until_ "$w follows another node" switched $w
    line=$(switches $w | head -n 1)
    took=$(echo "$(date -d "$(echo "$line" | value time)" +%s.%N) $(date -d "${from}Z" +%s.%N)" | awk '{ printf "%.1f", $1 - $2 }')
    echo "$w after $took s: $(echo "$line" | value reason)"
    echo "$took" | awk '{ exit $1 > 5 }' || die "$w took longer than 5 s"
  done
  until_ "submissions are made and scored meanwhile" scored $((windows + 1))
}
value() { sed -n "s/\\\\\"/'/g; s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; } # of a line of JSON
switches() { diary "$1" | awk -F'"' -v from="$from" '$4 > from' | grep '"reason":"following chain node'; }
switched() { [ -n "$(switches "$1")" ]; }
followed() { # the number of the machine that it follows; the first at first
  at=$(diary "$1" | value reason | sed -n "s/^following chain node $net\.\([0-9]*\):.*/\1/p" | tail -n 1)
  echo "${at:-1}"
}

nodes_fail() {
  page docs/MINER.md "several chain nodes: one is killed, then one hangs"
  fails_over "the chain node of machine 1 is killed" 1 kill_first
  node 1 --listen "$rpc" --s3-port 9000 --snapshot-every 40
  until_ "machine 1 has caught up" at_least 1 "$(height 2)"
  fails_over "the chain node of machine 2 hangs (SIGSTOP)" 2 hang_second
  kill -CONT "$(pid node2)"
  until_ "machine 2 has caught up" at_least 2 "$(height 1)"
  on 6 bin/sn3 --chain "$three" why 1
  on 6 bin/sn3 --chain "$three" chain hotkey 0 --events 12
  on 6 bin/sn3 --chain "$three" chain supply
  for w in hot miner validator s3d; do stop $w; done # the rest is about the chain
}
kill_first() { stop node1 KILL; }
hang_second() { kill -STOP "$(pid node2)"; }
