#!/usr/bin/env bash
# Installs what `make lint` needs and is not there yet: cargo-deny and cargo-machete into .tools/cargo, unless the
# pinned version is on the PATH, and buf into scripts/lint-tools/node_modules.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

export PATH="$PWD/.tools/cargo/bin:$PATH"
# The tools run for seconds: do without the optimisations of their release profiles, which take most of the build.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1

cargo_tool() {
  local name=$1 version=$2
  [[ " $("$name" --version 2>/dev/null) " == *" $version "* ]] && return
  say "building $name $version"
  cargo install --quiet --locked --force --root .tools/cargo --version "$version" "$name"
}

buf_is_there() {
  cmp -s scripts/lint-tools/package-lock.json scripts/lint-tools/node_modules/installed.json
}

cargo_tool cargo-deny 0.20.2
cargo_tool cargo-machete 0.9.2

if ! buf_is_there; then
  need 'node --version && npm --version' nodejs npm
  say "installing buf"
  npm ci --prefix scripts/lint-tools --ignore-scripts --no-audit --no-fund --loglevel=error
  cp scripts/lint-tools/package-lock.json scripts/lint-tools/node_modules/installed.json
fi
