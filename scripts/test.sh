#!/usr/bin/env bash
# Runs all tests: everything on SQLite, and tests/api on PostgreSQL and MySQL, too. BACKENDS="sqlite mysql" runs on these
# only. Servers are started for it, unless TEST_POSTGRES_URL or TEST_MYSQL_URL names one where databases may be made.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/databases.sh

export PHONE_IDENTITY_TEST_TOOLS=${PHONE_IDENTITY_TEST_TOOLS:-$PWD/.tools/venv}
backends=${BACKENDS:-sqlite postgres mysql}
failed=()

# cargo nextest shows more, and runs each test in a process of its own.
if cargo nextest --version >/dev/null 2>&1; then
  has_nextest=yes
fi

# tests BACKEND CARGO-ARGUMENTS...
tests() {
  local backend=$1 started=$SECONDS without=sqlite command
  shift
  # What is about SQLite's file, and what is about the network to a server.
  [ "$backend" != sqlite ] || without=network
  if [ -n "${has_nextest:-}" ]; then
    command=(cargo nextest run --locked "$@" --filterset "not test(/^$without::/)")
  else
    command=(cargo test --locked "$@" -- --skip "$without::")
  fi
  say "tests on $backend"
  if TEST_DATABASE=$backend run "${command[@]}"; then
    say "tests on $backend: passed in $((SECONDS - started)) s"
  else
    failed+=("tests on $backend")
  fi
}

# Several servers and one database, by way of pgbouncer.
replicas_behind_pgbouncer() {
  local started=$SECONDS command=(cargo test --locked --test api replicas::)
  if [ -n "${has_nextest:-}" ]; then
    command=(cargo nextest run --locked --test api --filterset 'test(/^replicas::/)')
  fi
  say "tests/api/replicas.rs behind pgbouncer"
  if TEST_DATABASE=postgres TEST_DATABASE_WAY=$PGBOUNCER_URL run "${command[@]}"; then
    say "tests/api/replicas.rs behind pgbouncer: passed in $((SECONDS - started)) s"
  else
    failed+=("tests/api/replicas.rs behind pgbouncer")
  fi
}

for backend in $backends; do
  case $backend in
  sqlite)
    tests sqlite --workspace
    if [ -n "${has_nextest:-}" ]; then
      say "cargo test --doc"
      run cargo test --doc --workspace --locked || failed+=("cargo test --doc")
    fi
    ;;
  postgres)
    start_postgres
    tests postgres --test api
    start_pgbouncer
    replicas_behind_pgbouncer
    ;;
  mysql)
    start_mysql
    tests mysql --test api
    ;;
  *) die "BACKENDS: there is no $backend" ;;
  esac
done

for backend in sqlite postgres mysql; do
  [[ " $backends " == *" $backend "* ]] || not_run+=("anything on $backend (BACKENDS)")
done
if [[ " $backends " == *" postgres "* || " $backends " == *" mysql "* ]]; then
  not_run+=("tests/api/sqlite.rs, about its file, on other backends")
fi
if [[ " $backends " == *" sqlite "* ]]; then
  not_run+=("tests/api/network.rs, about the way to a server, on SQLite")
fi
for what in "${not_run[@]}"; do
  say "NOT RUN: $what"
done
if [ "${#failed[@]}" -gt 0 ]; then
  die "failed: ${failed[*]}"
fi
