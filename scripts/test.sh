#!/usr/bin/env bash
# Runs all tests: everything on SQLite, and tests/api on PostgreSQL and MySQL, too. BACKENDS="sqlite mysql" runs on these
# only. Servers are started for it, unless TEST_POSTGRES_URL or TEST_MYSQL_URL names one where databases may be made.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/databases.sh

export PHONE_IDENTITY_TEST_TOOLS=${PHONE_IDENTITY_TEST_TOOLS:-$PWD/.tools/venv}
backends=${BACKENDS:-sqlite postgres mysql}
not_run=()

# tests BACKEND CARGO-ARGUMENTS...
tests() {
  local backend=$1 started=$SECONDS without=sqlite
  shift
  # What is about SQLite's file, and what is about the network to a server.
  [ "$backend" != sqlite ] || without=outages
  say "tests on $backend"
  if cargo nextest --version >/dev/null 2>&1; then
    TEST_DATABASE=$backend run cargo nextest run --locked "$@" --filterset "not test(/^$without::/)"
  else
    TEST_DATABASE=$backend run cargo test --locked "$@" -- --skip "$without::"
  fi
  say "tests on $backend: passed in $((SECONDS - started)) s"
}

for backend in $backends; do
  case $backend in
  sqlite)
    tests sqlite --workspace
    if cargo nextest --version >/dev/null 2>&1; then
      say "cargo test --doc"
      run cargo test --doc --workspace --locked
    fi
    ;;
  postgres)
    start_postgres
    tests postgres --test api
    ;;
  mysql)
    start_mysql
    tests mysql --test api
    ;;
  *) die "BACKENDS: there is no $backend" ;;
  esac
done

for backend in sqlite postgres mysql; do
  [[ " $backends " == *" $backend "* ]] || not_run+=("everything on $backend (BACKENDS)")
done
if [[ " $backends " == *" postgres "* || " $backends " == *" mysql "* ]]; then
  not_run+=("on other backends than SQLite: tests/api/sqlite.rs, which is about its file")
fi
if [[ " $backends " == *" sqlite "* ]]; then
  not_run+=("on SQLite: tests/api/outages.rs, since it has no network")
fi
if [ -n "${mysql_version:-}" ] && [[ $mysql_version == *MariaDB* ]]; then
  not_run+=("on MySQL 8: Debian has MariaDB only; the workflow of GitHub runs it")
fi
for what in "${not_run[@]}"; do
  say "NOT RUN $what"
done
