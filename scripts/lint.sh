#!/usr/bin/env bash
# Everything that `make lint` checks. ADVISORIES=required and ACTIONLINT=required make it an error if the advisory database, or
# actionlint, is out of reach.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

export PATH="$PWD/.tools/cargo/bin:$PWD/scripts/lint-tools/node_modules/.bin:$PATH"
advisories_unchecked=
workflows_unchecked=

run() {
  say "$*"
  "$@"
}

# The database is a git repository on GitHub, which not every machine reaches.
check_advisories() {
  local log
  log=$(mktemp)
  say "cargo-deny fetch db (the advisory database)"
  if timeout 60 cargo-deny --locked fetch db >"$log" 2>&1; then
    run cargo-deny --locked --offline check advisories
  elif [ "${ADVISORIES:-}" = required ]; then
    cat "$log" >&2
    die "the advisory database cannot be fetched"
  else
    advisories_unchecked=yes
  fi
  rm -f "$log"
}

# actionlint is fetched from GitHub, too.
check_workflows() {
  if .tools/lint/bin/actionlint --version >/dev/null 2>&1; then
    run .tools/lint/bin/actionlint
  elif [ "${ACTIONLINT:-}" = required ]; then
    die "actionlint is not installed"
  else
    workflows_unchecked=yes
  fi
}

run cargo fmt --all --check
run scripts/lint-prose --self-test
run scripts/lint-prose
run buf lint
run buf format --diff --exit-code
run scripts/buf-breaking.sh
run cargo-machete
run scripts/lint-deploy.sh
run .tools/lint/bin/mdbook build
check_workflows
run cargo-deny --locked check bans licenses sources
check_advisories
run cargo clippy --workspace --all-targets --locked -- -D warnings
RUSTDOCFLAGS="-D warnings" run cargo doc --workspace --no-deps --locked

say "lint: all good"
if [ -n "$advisories_unchecked" ]; then
  say "NOT CHECKED: security advisories (cargo deny check advisories): their database cannot be fetched from here"
fi
if [ -n "$workflows_unchecked" ]; then
  say "NOT CHECKED: the syntax of the workflows (actionlint): it cannot be fetched from here"
fi
