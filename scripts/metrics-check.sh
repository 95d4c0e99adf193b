#!/usr/bin/env bash
# `make metrics-check`: the release binary under load, Debian's Prometheus with our configuration beside it, and every query of the
# alerts and of the dashboard. BINARY is another one to look at.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/databases.sh

need 'prometheus --version && promtool --version' prometheus
venv=${PHONE_IDENTITY_TEST_TOOLS:-$PWD/.tools/venv}
binary=${BINARY:-}
if [ -z "$binary" ]; then
  cargo build --release --locked
  binary=target/release/phone-identity
fi
binary=$(realpath "$binary")

# Servers run in this folder, and end with this script.
make_databases_folder
folder=$databases_folder
mkdir "$folder/gen"
"$venv/bin/python3" -m grpc_tools.protoc -I proto --python_out="$folder/gen" --grpc_python_out="$folder/gen" \
  proto/phone_identity/v1/*.proto
# They may run as nobody, who may not look into our folder.
cp "$binary" "$folder/phone-identity"
cp deploy/prometheus/rules/phone-identity.yml "$folder/rules.yml"
mkdir "$folder/prometheus"
if [ "$(id -u)" -eq 0 ]; then
  chown nobody:nogroup "$folder/prometheus"
fi

grpc=127.0.0.1:$(free_port) metrics=127.0.0.1:$(free_port) prometheus=127.0.0.1:$(free_port)
# Attempts are soon too many, and passwords that wait, too. The first provider of SMS is not there. A message to Kazakhstan is
# more than a day may cost, and codes that nobody uses pause their prefix at once.
printf 'KZ\t100\n*\t0\n' >"$folder/prices.tsv"
serve phone-identity env PHONE_IDENTITY_CODE_KEYS="k1:$(head -c 32 /dev/zero | base64)" \
  PHONE_IDENTITY_WEBHOOK_SECRET="there is nobody to show this to there" \
  "$folder/phone-identity" --listen="$grpc" --metrics-listen="$metrics" --throttle-number-attempts=2 \
  --throttle-address-attempts=0 --hash-threads=1 --hash-queue=1 --cleanup-interval=1s --shutdown-delay=0s \
  --sms-providers=webhook,log --webhook-url=http://127.0.0.1:9/ --sms-countries=UZ,KZ --sms-budget=1 --sms-prices-file="$folder/prices.tsv" \
  --code-lifetime=1s --sms-pumping-codes=10 --sms-pumping-pause=1s
wait_for phone-identity "$!" python3 -c "import urllib.request; urllib.request.urlopen('http://$metrics/readyz')"

python3 scripts/metrics-check.py rewrite deploy/prometheus/prometheus.yml "$folder/rules.yml" "$metrics" >"$folder/prometheus.yml"
promtool check config "$folder/prometheus.yml" >&2
python3 -c "import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen('http://$metrics/metrics').read())" |
  promtool check metrics >&2
serve prometheus prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/prometheus" \
  --web.listen-address="$prometheus" --log.level=warn
wait_for prometheus "$!" python3 -c "import urllib.request; urllib.request.urlopen('http://$prometheus/-/ready')"

PYTHONPATH=$folder/gen setpriv --pdeathsig KILL "$venv/bin/python3" scripts/metrics-load.py "$grpc" >"$folder/load.log" 2>&1 &
# It dies with this script: what runs in the background of a script does not hear SIGQUIT, by which the servers are ended.
load=$!
say "Prometheus scrapes a server under load"
run python3 scripts/metrics-check.py ask "http://$prometheus" deploy/grafana/dashboards/phone-identity.json ||
  { tail -n 20 "$folder"/*.log >&2 && die "metrics-check failed"; }
kill -0 "$load" 2>/dev/null || { cat "$folder/load.log" >&2 && die "the load ended early"; }
say "metrics-check: all good"
