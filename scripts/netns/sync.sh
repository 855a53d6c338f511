# Snapshots, the reverse proxy, export and import, and a network of several from the beginning: the rest of docs/chain.md. Sourced by
# scripts/chain-netns.sh.

latecomer() {
  page docs/chain.md "Join, sync: a latecomer takes a snapshot"
  until_ "machine 1 has a snapshot" has_snapshot 1
  trust=$(on 1 bin/chaind trust --home chain)
  echo "chaind trust on machine 1: $trust"
  on 5 bin/chaind join --home chain --rpc "$rpc" --rpc "$net.2:26657" --hash "$hash" --trust "$trust" --p2p-listen 0.0.0.0:26656 | cut -c1-120
  node 5 --listen 127.0.0.1:26657
  until_ "machine 5 is in sync" follows 5
  h=$(height 1)
  until_ "machine 5 has the newest blocks" at_least 5 "$h"
  same "$h" 1 5
  echo "and does not know block 2: $(block 5 2 2>&1 | tail -n 1)"
  page docs/chain.md "Disk: prune, on a stopped node"
  if on 5 bin/chaind prune --home chain >"$dir/5/prune.out" 2>&1; then die "a running node was pruned"; fi
  echo "while it runs: $(cat "$dir/5/prune.out")"
  stop node5
  on 5 bin/chaind prune --home chain
}
has_snapshot() { flat "$1" | grep -q '"snapshot":[1-9]'; }

# page_block FILE MARK: the lines of the indented block of a page that begins with MARK, as they stand
page_block() { awk -v mark="    $2" 'index($0, mark) == 1 { on = 1 } on && $0 !~ /^    / { exit } on { print substr($0, 5) }' "$1"; }

behind_tls() {
  page docs/chain.md "Behind a reverse proxy with TLS"
  [ -d /etc/netns ] || etc=new
  mkdir -p "/etc/netns/$id-6" # what machine 6 has as /etc/hosts
  echo "$net.4 chain.example.org" >"/etc/netns/$id-6/hosts"
  if command -v nginx >/dev/null && command -v openssl >/dev/null; then
    say "machine 4: nginx with the page's server block before the node on loopback"
    on 4 openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -keyout chain.key -out chain.pem -subj /CN=chain.example.org \
      -addext subjectAltName=DNS:chain.example.org 2>/dev/null
    {
      echo "daemon off; user root; pid $dir/4/nginx.pid; error_log $dir/4/nginx.err; events {} http { access_log off;"
      for t in client_body proxy fastcgi uwsgi scgi; do echo "${t}_temp_path $dir/4/$t;"; done
      page_block "$docs/chain.md" "server {" | sed "s|/etc/ssl/chain|$dir/4/chain|"
      echo "}"
    } >"$dir/4/nginx.conf"
    service nginx 4 nginx -c "$dir/4/nginx.conf" -e "$dir/4/nginx.err"
    through_proxy "$dir/4/chain.pem" nginx
    stop nginx
  else
    say "skipped: nginx is not installed (packages nginx and openssl)"
  fi
  if command -v caddy >/dev/null; then
    say "machine 4: Caddy with the page's block"
    { echo "{ admin off"; echo "local_certs"; echo "skip_install_trust"; echo "storage file_system $dir/4/caddy"; echo "}"; page_block "$docs/chain.md" "chain.example.org {"; } >"$dir/4/Caddyfile"
    service caddy 4 env HOME="$dir/4" caddy run --config Caddyfile
    until_ "Caddy has made its authority" [ -s "$dir/4/caddy/pki/authorities/local/root.crt" ]
    through_proxy "$dir/4/caddy/pki/authorities/local/root.crt" caddy
    stop caddy
  else
    say "skipped: Caddy is not installed (package caddy)"
  fi
}

# through_proxy AUTHORITY NAME: the tools and a node that joins, through the proxy; and they refuse a certificate that they do not know
through_proxy() {
  until_ "$2 answers" tls "$1" bin/chaind status --rpc https://chain.example.org
  tls "$1" bin/sn3 --chain https://chain.example.org chain blocks -n 2
  tls "$1" bin/chaind join --home "over-$2" --rpc https://chain.example.org --hash "$hash" --sync replay | field network
  if on 6 bin/sn3 --chain https://chain.example.org chain blocks >"$dir/6/tls.out" 2>&1; then die "a certificate that nobody vouches for was taken"; fi
  echo "without SSL_CERT_FILE: $(tail -n 1 "$dir/6/tls.out")"
}
tls() ( crt=$1; shift; cp "$crt" "$dir/6/authority.pem" && on 6 env SSL_CERT_FILE=authority.pem "$@" >"$dir/6/tls.out" 2>&1; code=$?; cat "$dir/6/tls.out"; exit $code )

heir() {
  page docs/chain.md "Export and import: the state goes on in a new network"
  for n in 1 2 3 4; do stop node$n; done
  on 1 bin/chaind export --home chain --out state.sn3c | tee "$dir/1/export.out"
  h=$(field block <"$dir/1/export.out")
  [ -n "$h" ] || die "nothing was exported"
  home=heir
  on 1 bin/chaind import --home heir --file state.sn3c --p2p-listen 0.0.0.0:26656
  node 1 --listen "$rpc"
  until_ "the heir makes blocks" at_least 1 $((h + 3))
  on 7 bin/sn3 --chain "$rpc" chain metagraph
  on 7 bin/sn3 --chain "$rpc" chain supply
  say "machine 2 joins with the same file and the first node's genesis"
  cp "$dir/1/state.sn3c" "$dir/1/heir/genesis.sn3.json" "$dir/2/"
  peer=$(node_status 1 | field listens | sed "s/@.*/@$net.1:26656/")
  on 2 bin/chaind import --home heir --file state.sn3c --genesis genesis.sn3.json --p2p-listen 0.0.0.0:26656 --peer "$peer"
  node 2 --listen "$net.2:26657"
  until_ "machine 2 follows" at_least 2 "$(height 1)"
  same "$(height 2)" 1 2
  stop node1
  stop node2
  home=chain
}

several() {
  page docs/chain.md "Several validators from the beginning: the ceremony"
  home=begin
  lines=
  for n in 2 3 4; do
    line=$(on $n bin/chaind keys --home begin --network trial-of-four)
    lines="$lines --validator $line"
    [ $n != 2 ] || second=${line%%:*}
  done
  cp "$dir/7/wallets/owner.pub" "$dir/7/wallets/validator.pub" "$dir/1/"
  on 1 bin/sn3 genesis --network trial-of-four --preset local --data data --data-at local:data --block-time 500 --owner owner.pub --seat validator.pub:1000 --out of-four.json
  # shellcheck disable=SC2086 # one word each
  on 1 bin/chaind genesis --home begin --genesis of-four.json $lines --ceremony ceremony | tee "$dir/1/draft.out"
  first=$(field node <"$dir/1/draft.out")
  [ -n "$first" ] || die "chaind genesis names no node"
  for n in 2 3 4; do cp -r "$dir/1/ceremony" "$dir/$n/"; done
  for turn in "it deals" "it answers" "it takes its share"; do
    say "$turn: chaind ceremony on each machine, then everybody's files to everybody"
    for n in 1 2 3 4; do on $n bin/chaind ceremony --home begin --folder ceremony >"$dir/$n/turn.out"; done
    cat "$dir/4/turn.out"
    for n in 1 2 3 4; do for to in 1 2 3 4; do [ $to = $n ] || cp "$dir/$n/ceremony"/*.dealing "$dir/$to/ceremony/"; done; done
    for n in 1 2 3 4; do for to in 1 2 3 4; do for f in "$dir/$n/ceremony"/*.answer; do [ ! -e "$f" ] || [ $to = $n ] || cp "$f" "$dir/$to/ceremony/"; done; done; done
  done
  for n in 2 3 4; do cmp "$dir/1/ceremony/genesis.json" "$dir/$n/ceremony/genesis.json" || die "machine $n made another genesis"; done
  for n in 1 2 3 4; do
    peer=$first@$net.1:26656
    [ $n != 1 ] || peer=$second@$net.2:26656
    on $n bin/chaind init --home begin --genesis ceremony/genesis.json --p2p-listen 0.0.0.0:26656 --peer "$peer"
    node $n --listen "$net.$n:26657"
  done
  for n in 1 2 3 4; do until_ "machine $n makes blocks" at_least $n 5; done
  [ "$(voters 3)" = 4 ] || die "there are not four validators"
  say "one of four is away from the beginning: blocks and rounds go on"
  stop node1 KILL
  h=$(height 2)
  until_ "three go on" at_least 2 $((h + 4))
  same $((h + 1)) 2 3 4
  node_status 3 | sed -n '/^beacon/,/^peers/p' | grep -v ^peers
  for n in 2 3 4; do stop node$n; done
  home=chain
}
