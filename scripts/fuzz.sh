#!/usr/bin/env bash
# Fuzzes everything that reads what others wrote (src/fuzzing.rs), each target for FUZZ_SECONDS. FUZZ_TARGETS="phone token"
# runs these only. What it finds beyond the corpus of the repository is kept in fuzz/target/corpus, and a fault in
# fuzz/artifacts. cargo-fuzz is installed into .tools/cargo, unless the pinned version is on the PATH; it wants a nightly compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

seconds=${FUZZ_SECONDS:-30}
version=0.13.2
export PATH="$PWD/.tools/cargo/bin:$PATH"

cargo +nightly --version >/dev/null 2>&1 || die "fuzzing wants a nightly compiler: rustup toolchain install nightly"
if [[ " $(cargo-fuzz --version 2>/dev/null) " != *" $version "* ]]; then
  say "building cargo-fuzz $version"
  cargo install --quiet --locked --force --root .tools/cargo --version "$version" cargo-fuzz
fi

# What is fuzzed stands on the same versions as the program.
cp Cargo.lock fuzz/Cargo.lock
targets=${FUZZ_TARGETS:-$(cargo +nightly fuzz list)}
say "building the targets"
cargo +nightly fuzz build

failed=()
for target in $targets; do
  mkdir -p "fuzz/target/corpus/$target"
  log=fuzz/target/$target.log
  say "fuzzing $target for $seconds s"
  # The first folder is written, and both are read.
  if cargo +nightly fuzz run "$target" "fuzz/target/corpus/$target" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=1 >"$log" 2>&1; then
    say "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions, nothing found"
  else
    tail -40 "$log" >&2
    failed+=("$target")
  fi
done

if [ "${#failed[@]}" -gt 0 ]; then
  die "faults were found in: ${failed[*]} (see fuzz/artifacts)"
fi
