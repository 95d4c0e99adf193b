#!/usr/bin/env bash
# Kills everything, for long: 20 rounds of the service on each backend, 10 rounds of PostgreSQL and of MariaDB, 20 failovers
# of each kind on both, and 10 minutes of all kinds of faults on PostgreSQL. First it checks the memory accesses of the hash engine
# (hash-engine.sh). BACKENDS="sqlite mysql" runs on these only;
# SOAK_ROUNDS, SOAK_DATABASE_ROUNDS,
# SOAK_FAILOVER_ROUNDS and SOAK_SECONDS make it shorter or longer, and SOAK_SEED repeats the choices of a run.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/databases.sh

export SOAK_ROUNDS=${SOAK_ROUNDS:-20} SOAK_DATABASE_ROUNDS=${SOAK_DATABASE_ROUNDS:-10} SOAK_SECONDS=${SOAK_SECONDS:-600}
export SOAK_FAILOVER_ROUNDS=${SOAK_FAILOVER_ROUNDS:-20}
backends=${BACKENDS:-sqlite postgres mysql}
failed=()

# soak BACKEND TEST...: one after another, each with the machine for itself.
soak() {
  local backend=$1 started=$SECONDS
  shift
  say "soak on $backend: $*"
  if TEST_DATABASE=$backend run cargo test --locked --test soak -- --nocapture --test-threads=1 "$@"; then
    say "soak on $backend: passed in $((SECONDS - started)) s"
  else
    failed+=("soak on $backend")
  fi
}

scripts/hash-engine.sh || failed+=("hash engine")

for backend in $backends; do
  case $backend in
  sqlite) soak sqlite crash:: ;;
  postgres)
    start_postgres
    soak postgres crash:: database_killed:: database_failover:: mixed::
    ;;
  mysql)
    start_mysql
    soak mysql crash:: database_killed:: database_failover::
    ;;
  *) die "BACKENDS: there is no $backend" ;;
  esac
done

for backend in sqlite postgres mysql; do
  [[ " $backends " == *" $backend "* ]] || not_run+=("anything on $backend (BACKENDS)")
done
for what in "${not_run[@]}"; do
  say "NOT RUN: $what"
done
if [ "${#failed[@]}" -gt 0 ]; then
  die "failed: ${failed[*]}"
fi
