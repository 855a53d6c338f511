#!/bin/sh
# Does what docs/chain.md says, and of docs/WALLET.md, MINER.md and VALIDATOR.md what belongs to a chain of several nodes, on machines that are network
# namespaces of this one, joined by a switch. Every step says which page it follows. It needs root, ip (iproute2), curl and the programs in BIN
# (default bin); nginx, caddy and script are used if they are there. It takes about five minutes, ends with exit code 0 if all went as the pages say, and
# leaves nothing behind but its folder, if KEEP is set.
#
#   sudo sh scripts/chain-netns.sh [BIN]
#   sudo env ONLY="latecomer heir" sh scripts/chain-netns.sh      # the first nodes, and of what follows only this
set -eu
here=$(cd "$(dirname "$0")" && pwd)
docs=$here/../docs
bin=$(cd "${1:-bin}" && pwd)
for p in chaind sn3 miner validator s3d; do [ -x "$bin/$p" ] || { echo "chain-netns: there is no $bin/$p: run make build" >&2; exit 2; }; done
[ "$(id -u)" = 0 ] || { echo "chain-netns: network namespaces need root" >&2; exit 2; }
for p in ip curl; do command -v $p >/dev/null || { echo "chain-netns: $p is missing (package iproute2 or curl)" >&2; exit 2; }; done
unset SSL_CERT_FILE CREDENTIALS_DIRECTORY 2>/dev/null || true
. "$here/netns/lib.sh"
. "$here/netns/chain.sh"
. "$here/netns/training.sh"
. "$here/netns/sync.sh"

dir=$(mktemp -d "${TMPDIR:-/tmp}/$id.XXXXXX")
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
sweep
all="parameters money one_away two_cut_off shared_beacon train beacon_signs nodes_fail latecomer behind_tls heir several"
for s in ${ONLY:-}; do case " $all " in *" $s "*) ;; *) die "there is no step $s; there are $all" ;; esac; done

begin=$(date +%s)
say "chain nodes at $net.1 to $net.4, a latecomer at $net.5, miners at $net.6, their owner's home at $net.7, and a switch"
machines 1 2 3 4 5 6 7
wallets
first_node
three_join
for s in $all; do case " ${ONLY:-$all} " in *" $s "*) $s ;; esac; done
say "done in $(($(date +%s) - begin)) s"
