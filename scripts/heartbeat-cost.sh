#!/usr/bin/env bash
# Measures what the heartbeats of a synchronous PostgreSQL cost: processor time of an idle service, of the server and of a
# pg_receivewal as its standby, with and without synchronous_standby_names, each three times in turns (SECONDS_A_ROUND=60).
# Needs target/release/phone-identity.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/databases.sh

need 'ls /usr/lib/postgresql/*/bin/postgres' postgresql-15
programs=$(dirname "$(find /usr/lib/postgresql -name pg_receivewal | head -n 1)")
seconds=${SECONDS_A_ROUND:-60}
make_databases_folder
data=$databases_folder/data
port=$(free_port)
unprivileged "$programs/initdb" -D "$data" -U postgres -A trust >/dev/null
serve postgres "$programs/postgres" -D "$data" -p "$port" -k "$databases_folder" -c autovacuum=off
server=${databases_pids[-1]}
ask() { psql -h 127.0.0.1 -p "$port" -U postgres -qAtc "$1" "${@:2}"; }
wait_for postgres "$server" ask 'SELECT 1'
ask 'CREATE DATABASE identity'
unprivileged mkdir "$databases_folder/wal"
serve standby "$programs/pg_receivewal" -h 127.0.0.1 -p "$port" -U postgres -D "$databases_folder/wal" --synchronous
standby=${databases_pids[-1]}

# used PID: processor time in ms of a process, and of the children that it has waited for.
used() {
  local stat
  stat=$(<"/proc/$1/stat")
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  echo $((10 * (${12} + ${13} + ${14} + ${15})))
}

# total SERVICE: processor time in ms of all.
total() {
  local pid sum
  sum=$(($(used "$1") + $(used "$server") + $(used "$standby")))
  for pid in $(pgrep -P "$server"); do
    sum=$((sum + $(used "$pid" 2>/dev/null || echo 0)))
  done
  echo "$sum"
}

for _ in 1 2 3; do
  for names in '' '*'; do
    ask "ALTER SYSTEM SET synchronous_standby_names = '$names'"
    ask 'SELECT pg_reload_conf()' >/dev/null
    serve service "$PWD/target/release/phone-identity" serve --listen "127.0.0.1:$(free_port)" \
      --database-url "postgres://postgres@127.0.0.1:$port/identity"
    service=${databases_pids[-1]}
    sleep 4
    beats=$(ask 'SELECT beats FROM heartbeat' -d identity)
    before=$(total "$service")
    sleep "$seconds"
    after=$(total "$service")
    beats=$(($(ask 'SELECT beats FROM heartbeat' -d identity) - beats))
    kill "$service"
    say "synchronous_standby_names='$names': $beats beats, $((after - before)) ms of processor time in $seconds s"
  done
done
