#!/usr/bin/env bash
# Checks the memory accesses of the hash engine, argon2-rust, over its parameters, and compares its results with argon2
# (fuzz/hash_engine). AddressSanitizer runs it with all vector instructions of this processor; valgrind has no AVX-512, and finds reads of
# memory that was never written. HASH_ENGINE_CASES is the number of random cases, HASH_ENGINE_SEED repeats them.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

manifest=fuzz/hash_engine/Cargo.toml
target=$PWD/fuzz/target/hash-engine
cases=${HASH_ENGINE_CASES:-20000}
valgrind_cases=$((cases / 50))

cargo +nightly --version >/dev/null 2>&1 || die "AddressSanitizer wants a nightly compiler: rustup toolchain install nightly"
need 'valgrind --version' valgrind
# The versions of the program.
cp Cargo.lock fuzz/hash_engine/Cargo.lock

say "building the walk for AddressSanitizer and for valgrind"
RUSTFLAGS="-Zsanitizer=address" cargo +nightly build --quiet --release --manifest-path "$manifest" \
  --target x86_64-unknown-linux-gnu --target-dir "$target/address"
cargo build --quiet --release --manifest-path "$manifest" --target-dir "$target/valgrind"

address=("$target/address/x86_64-unknown-linux-gnu/release/hash-engine")
# It is about fifty times slower, and walks with larger steps.
memcheck=(env HASH_ENGINE_SLOW=1 valgrind --quiet --error-exitcode=9 "$target/valgrind/release/hash-engine")

# finds FAULT COMMAND...: the checker has to find this fault, or it is not at work.
finds() {
  local fault=$1
  shift
  if HASH_ENGINE_FAULT=$fault "$@" >"$target/log" 2>&1; then
    die "the checker does not find an access to memory $fault: $1"
  fi
}

say "each checker finds a fault that is there"
finds outside "${address[@]}"
finds outside "${memcheck[@]}"
finds unwritten "${memcheck[@]}"

for checker in address memcheck; do
  declare -n command=$checker
  count=$cases
  [ "$checker" = address ] || count=$valgrind_cases
  say "$checker: $count random cases after the systematic ones"
  started=$SECONDS
  HASH_ENGINE_CASES=$count "${command[@]}" || die "the hash engine has a fault that $checker finds"
  say "$checker: nothing found in $((SECONDS - started)) s"
done
