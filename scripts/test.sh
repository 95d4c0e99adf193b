#!/usr/bin/env bash
# Runs all tests.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

export PHONE_IDENTITY_TEST_TOOLS=${PHONE_IDENTITY_TEST_TOOLS:-$PWD/.tools/venv}

if cargo nextest --version >/dev/null 2>&1; then
  say "cargo nextest run"
  cargo nextest run --workspace --locked
  say "cargo test --doc"
  cargo test --doc --workspace --locked
else
  say "cargo test (cargo-nextest is not installed)"
  cargo test --workspace --locked
fi
