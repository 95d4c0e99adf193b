#!/usr/bin/env bash
# Runs all tests: everything on SQLite, and tests/api and tests/soak on PostgreSQL and MySQL, too. BACKENDS="sqlite mysql" runs on these
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
  local backend=$1 started=$SECONDS without command name
  shift
  case $backend in
  # There is no network to its file, and no server that could be killed.
  sqlite) without=(network database_failover database_killed mixed) ;;
  postgres) without=(sqlite) ;;
  mysql) without=(sqlite mixed) ;;
  esac
  # Those that kill a server start one of their own.
  if [ "$backend" != sqlite ] && ! can_start "$backend"; then
    without+=(database_failover database_killed mixed)
    not_run+=("failover and kill -9 of the server on $backend: its programs are not installed here")
  fi
  if [ "$backend" = mysql ] && can_start mysql && ! can_start galera; then
    without+=(database_failover::galera)
    not_run+=("Galera: its library or rsync is not installed here")
  fi
  if [ -n "${has_nextest:-}" ]; then
    command=(cargo nextest run --locked "$@" --filterset "not ($(printf 'test(/^%s::/) + ' "${without[@]}")none())")
  else
    command=(cargo test --locked "$@" --)
    for name in "${without[@]}"; do
      command+=(--skip "$name::")
    done
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

# can_start BACKEND: whether tests can start a server of their own, or a Galera cluster.
can_start() {
  case $1 in
  postgres) compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null ;;
  mysql) (PATH=$PATH:/usr/sbin && command -v mariadbd mariadb-install-db) >/dev/null ;;
  galera) [ -e /usr/lib/galera/libgalera_smm.so ] && command -v rsync >/dev/null ;;
  esac
}

# Cargo builds it by itself only where no target is named.
run cargo build --locked --example next_version

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
    tests postgres --test api --test soak
    start_pgbouncer
    replicas_behind_pgbouncer
    ;;
  mysql)
    start_mysql
    tests mysql --test api --test soak
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
  not_run+=("tests/api/network.rs and database_failover.rs, about the way to a server, on SQLite")
fi
if [[ " $backends " == *" postgres "* ]]; then
  not_run+=("the long forms of tests/soak: 20 rounds, 10 rounds, 20 failovers of each kind and 10 minutes (make soak)")
else
  not_run+=("the long form of tests/soak: 20 rounds, 10 rounds and 20 failovers of each kind (make soak)")
fi
for what in "${not_run[@]}"; do
  say "NOT RUN: $what"
done
if [ "${#failed[@]}" -gt 0 ]; then
  die "failed: ${failed[*]}"
fi
