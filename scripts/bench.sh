#!/usr/bin/env bash
# Measures the release binary: see docs/performance.md. Nothing else should run on the machine meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

need 'h2load --version' nghttp2-client
cargo build --release --locked
cargo bench --bench load --locked
