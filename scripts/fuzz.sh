#!/usr/bin/env bash
# Runs each fuzz target of src/fuzzing.rs for FUZZ_SECONDS. FUZZ_TARGETS="phone token" runs only these. The script stores
# new inputs in fuzz/target/corpus and faults in fuzz/artifacts. It installs cargo-fuzz into .tools/cargo, unless the pinned
# version is on the PATH. cargo-fuzz needs a nightly compiler.
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

# The targets use the same versions of dependencies as the program.
cp Cargo.lock fuzz/Cargo.lock
say "building the targets"
cargo +nightly fuzz build
# Without FUZZ_TARGET, the binary prints the names of all targets.
mkdir -p fuzz/target/corpus
# A corpus folder is named, since cargo-fuzz creates one among the corpora of the repository without.
targets=${FUZZ_TARGETS:-$(env -u FUZZ_TARGET cargo +nightly fuzz run target fuzz/target/corpus)} ||
  die "the binary did not print its targets"
[ -n "$targets" ] || die "the binary printed no targets"

failed=()
for target in $targets; do
  # libFuzzer writes new inputs into the first folder.
  folders=("fuzz/target/corpus/$target")
  mkdir -p "${folders[0]}" "fuzz/artifacts/$target"
  if [ -d "fuzz/corpus/$target" ]; then
    folders+=("fuzz/corpus/$target")
  fi
  log=fuzz/target/$target.log
  say "fuzzing $target for $seconds s"
  if FUZZ_TARGET=$target cargo +nightly fuzz run target "${folders[@]}" -- -artifact_prefix="fuzz/artifacts/$target/" \
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
