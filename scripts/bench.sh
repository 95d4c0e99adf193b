#!/usr/bin/env bash
# Measures the release binary: see docs/performance/method.md. Nothing else should run on the machine meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/databases.sh

need 'h2load --version' nghttp2-client
cargo build --release --locked

# Where no row is about it, there is no need of a server.
if [[ -z ${ROWS:-} || $ROWS == *postgres* ]]; then
  start_postgres
  PGBENCH=$(printf '%s\n' /usr/lib/postgresql/*/bin/pgbench | sort -V | tail -1)
  export PGBENCH
fi
run cargo bench --bench load --locked
