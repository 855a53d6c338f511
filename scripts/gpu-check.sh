#!/bin/sh
# Checks sn3 on this machine's NVIDIA card, from the programs beside this script (gpu-check-pack.sh makes them): no Go, no network.
#
#   sh gpu-check.sh [STEP...]     driver kernels attention cublaslt engine network memcheck racecheck bench; all if none is named
#
# Its first card is used; CUDA_VISIBLE_DEVICES=1 makes another one the first. SN3_CUDA names the driver's library if it is not where the loader looks.
# OUT=FOLDER gets report.md, report.json, the measurements (bench.json, bench.md) and the log of each step; gpu-check-results if not set.
# COMPUTE_SANITIZER names that program where it is neither on the PATH nor under /usr/local/cuda; none: without it.
# BENCH="--shapes 160m --rounds 3" are flags for the measurements, CHECKS=100 how many random cases a test draws.
#
# Exit status: 0 all passed, 1 a step failed, 2 an unknown step, 3 there is no driver or no card.
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
every="driver kernels attention cublaslt engine network memcheck racecheck bench"
steps=${*:-$every}
for s in $steps; do
  case " $every " in
  *" $s "*) ;;
  *) echo "gpu-check: there is no step $s; there are $every" >&2; exit 2 ;;
  esac
done

# 1. a card, or nothing
look=$("$here/bench" gpu --look 2>&1)
status=$?
echo "$look"
if [ $status != 0 ]; then
  echo "gpu-check: nothing was checked: it needs an NVIDIA card and its driver" >&2
  exit $status
fi
case ${OUT:-} in '') out=$PWD/gpu-check-results ;; /*) out=$OUT ;; *) out=$PWD/$OUT ;; esac
mkdir -p "$out" && : >"$out/steps" || exit 1
SN3_GPU_CHECK=1
checks=${CHECKS:-100}
RAPID_NOFAILFILE=1 RAPID_CHECKS=$checks
CUDA_CACHE_PATH=${CUDA_CACHE_PATH:-$out/cache} # of what the driver compiles: once for all programs
export SN3_GPU_CHECK RAPID_NOFAILFILE RAPID_CHECKS CUDA_CACHE_PATH

# note STEP STATE WORDS: how a step ended
note() {
  printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$out/steps"
  echo "gpu-check: $1: $2${3:+: $3}"
}

# tests STEP PROGRAM FLAGS...: a test program as a step. That every test was skipped is no pass.
tests() {
  step=$1 program=$here/$2
  shift 2
  if [ ! -x "$program" ]; then
    note "$step" "not present" "$(basename "$program") was not packed"
    return
  fi
  echo "gpu-check: $step ..."
  # shellcheck disable=SC2086 # $wrap is a command with its flags
  if (cd "$here/work" && ${wrap:-} "$program" -test.v -test.timeout 15m "$@") >"$out/$step.log" 2>&1; then
    passed=$(grep -c '^--- PASS' "$out/$step.log")
    skipped=$(grep -c '^--- SKIP' "$out/$step.log")
    if [ "$passed" = 0 ]; then
      note "$step" failed "no test ran, $skipped were skipped"
    else
      note "$step" passed "$passed tests; $skipped skipped, see $step.log"
    fi
  else
    note "$step" failed "see $step.log"
    grep -E '^ *(--- FAIL|[a-z_0-9]+\.go:[0-9]+:|panic:|=+ )' "$out/$step.log" | grep -v 'only the stand-in' | head -n 20
  fi
}

# sanitizer STEP TOOL: compute-sanitizer over the kernels, then over steps of the engine
sanitizer() {
  sanitize=${COMPUTE_SANITIZER:-}
  for f in "$(command -v compute-sanitizer)" /usr/local/cuda/bin/compute-sanitizer /usr/local/cuda-*/bin/compute-sanitizer; do
    [ -z "$sanitize" ] && [ -n "$f" ] && [ -x "$f" ] && sanitize=$f
  done
  if [ -z "$sanitize" ] || [ "$sanitize" = none ]; then
    note "$1" "not present" "there is no compute-sanitizer (it is in NVIDIA's CUDA toolkit)"
    return
  fi
  wrap="$sanitize --tool $2 --error-exitcode 9 --require-cuda-init no" RAPID_CHECKS=3
  tests "$1" model-gpu-kernels.test -test.short
  tests "$1-engine" model-gpu.test -test.run 'TestGradients|TestSteps|TestJudge'
  wrap='' RAPID_CHECKS=$checks
}

for s in $steps; do
  case $s in
  driver) tests driver model-gpu-cuda.test ;;
  kernels) tests kernels model-gpu-kernels.test ;;
  attention) tests attention model-cpu.test -test.run 'TestAttentionOfTheCard' ;;
  cublaslt)
    case $look in
    *"no cuBLASLt"*) note cublaslt "not present" "products are made by our own kernels" ;;
    *) tests cublaslt model-gpu-lt.test ;;
    esac
    ;;
  engine)
    tests engine model-gpu.test
    case $look in
    *"no cuBLASLt"*) ;;
    *) # the engine's own products too
      wrap="env SN3_CUBLASLT=none"
      tests engine-own model-gpu.test
      wrap=''
      ;;
    esac
    ;;
  network) tests network internal-simnet.test -test.run 'TestNetworkOfCards' ;;
  memcheck) sanitizer memcheck memcheck ;;
  racecheck) sanitizer racecheck racecheck ;;
  bench)
    echo "gpu-check: bench ..."
    # shellcheck disable=SC2086 # BENCH is flags
    if "$here/bench" gpu --json "$out/bench.json" --markdown "$out/bench.md" ${BENCH:-} >"$out/bench.log" 2>&1; then
      note bench passed "bench.json, bench.md"
    else
      note bench failed "see bench.log"
      tail -n 5 "$out/bench.log"
    fi
    ;;
  esac
done

# the report: what was checked, then what was measured
{
  # shellcheck disable=SC2016 # they are Markdown's
  printf '# gpu-check\n\n```\n%s\n```\n\n| step | result | |\n|---|---|---|\n' "$look"
  awk -F '\t' '{ printf "| %s | %s | %s |\n", $1, $2, $3 }' "$out/steps"
  [ -f "$out/bench.md" ] && echo && cat "$out/bench.md"
} >"$out/report.md"
awk -F '\t' 'BEGIN { print "{\"steps\": [" } { gsub(/["\\]/, "", $3); printf "%s {\"step\": \"%s\", \"result\": \"%s\", \"words\": \"%s\"}", (NR > 1 ? ",\n" : ""), $1, $2, $3 } END { print "\n]}" }' \
  "$out/steps" >"$out/report.json"
echo "gpu-check: the report is $out/report.md; bench.json belongs into docs/gpu-results, bench.md into docs/GPU.md"
if cut -f 2 "$out/steps" | grep -qx failed; then
  echo "gpu-check: some steps failed" >&2
  exit 1
fi
