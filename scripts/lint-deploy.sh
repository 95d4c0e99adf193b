#!/usr/bin/env bash
# What `make lint` checks of the Dockerfile, compose.yaml and deploy/.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

tools=$PWD/.tools/lint/bin
# The version whose schemas count. Newer ones take what it takes.
kubernetes=1.34
rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT

say "hadolint Dockerfile"
"$tools/hadolint" Dockerfile

for overlay in deploy/kubernetes/overlays/*/; do
  name=$(basename "$overlay")
  say "kubectl kustomize $overlay, against the schemas of Kubernetes $kubernetes"
  "$tools/kubectl" kustomize "$overlay" >"$rendered/$name.yaml"
  "$tools/kubernetes-validate" --quiet --strict --kubernetes-version "$kubernetes" "$rendered/$name.yaml"
done

say "promtool: configuration, rules, and their unit tests"
promtool check config deploy/prometheus/prometheus.yml >"$rendered/promtool" || { cat "$rendered/promtool" >&2 && exit 1; }
promtool test rules deploy/prometheus/tests/phone-identity.yml >"$rendered/promtool" ||
  { cat "$rendered/promtool" >&2 && exit 1; }

say "settings, manifests, alerts, dashboard and runbook agree"
"$tools/python3" scripts/lint-deploy.py "$rendered"/*.yaml
