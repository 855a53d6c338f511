#!/bin/sh
# Makes a folder that checks sn3 on another machine's card, where neither Go nor a network is (gpu-check.sh), and a .tar.gz of it.
#
#   sh scripts/gpu-check-pack.sh FOLDER [PACKAGE...]     of the tests' packages all, or those named
#
# GOLDEN=FOLDER has the whole sets of reference vectors; without it the committed ones are packed alone.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
to=${1:?give the folder to make}
shift
packages=${*:-model/gpu/cuda model/gpu/kernels model/cpu model/gpu/lt model/gpu internal/simnet}
version=$(git describe --tags --always --dirty 2>/dev/null || echo dev)
rm -rf "$to"
mkdir -p "$to/work/internal/golden"
echo "build bench"
CGO_ENABLED=0 "$go" build -trimpath -ldflags "-s -w -X sn3/internal/proc.Version=$version" -o "$to/bench" ./scripts/bench
for p in $packages; do
  name=$(echo "$p" | tr / -).test
  echo "build $name"
  CGO_ENABLED=0 "$go" test -c -trimpath -ldflags '-s -w' -o "$to/$name" "./$p"
done
cp scripts/gpu-check.sh LICENSE NOTICE "$to/"
cp -R internal/golden/testdata "$to/work/internal/golden/"
golden=${GOLDEN:-../shared/golden}
if [ -d "$golden/llama" ]; then # the whole set of vectors, where it is at hand
  mkdir -p "$to/shared/golden"
  cp -R "$golden/llama" "$to/shared/golden/"
fi
echo "module sn3" >"$to/work/go.mod" # by which tests find the vectors
tar -czf "$to.tar.gz" -C "$(dirname "$to")" "$(basename "$to")"
size=$(wc -c <"$to.tar.gz")
if [ "$size" -gt 60000000 ]; then
  echo "gpu-check-pack: $to.tar.gz has $size bytes; more than 60 MB is more than some ways to another machine take" >&2
  exit 1
fi
echo "made $to and $to.tar.gz: copy it, unpack it, and run sh $(basename "$to")/gpu-check.sh"
