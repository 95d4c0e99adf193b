# The tasks of this project. `make help` lists them; what takes more than a few lines is in scripts/.

.DEFAULT_GOAL := help
.PHONY: help bench bench-timing build dist fmt fuzz image-check lint lint-tools metrics-check soak test test-tools clean-tools

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s  %s\n", $$1, $$2 }' Makefile

build: ## build the release binary, target/release/phone-identity
	cargo build --release --locked

fmt: ## format the Rust sources
	cargo fmt --all

lint: lint-tools ## check format, prose, clippy, documentation, dependencies, protos and what is deployed
	@scripts/lint.sh

lint-tools: ## install what lint needs: cargo-deny, cargo-machete, buf, kubectl, hadolint, mdbook, promtool, actionlint
	@scripts/lint-tools.sh

test: test-tools ## run all tests (needs none of the lint tools)
	@scripts/test.sh

test-tools: ## install what the tests need: grpcurl and the gRPC clients of Python and Node
	@scripts/test-tools.sh

bench: ## measure the release binary (ROWS=cached,login ROUNDS=5 SECONDS_A_ROUND=3); takes minutes
	@scripts/bench.sh

bench-timing: ## compare the times of failed sign-ins and of codes by Welch's t (CALLS=2000 of each kind); takes minutes
	@ROWS=timing scripts/bench.sh

soak: ## check the hash engine's memory, and kill service and databases under load, for about 40 minutes (SOAK_SECONDS=600 SOAK_ROUNDS=20 ...)
	@scripts/soak.sh

image-check: ## build the image with buildah, and run it without a daemon: its health, its end, and what it writes
	@scripts/image-check.sh

metrics-check: test-tools ## let Prometheus scrape the release binary under load, and ask all that alerts and dashboard ask
	@scripts/metrics-check.sh

dist: ## build the release binary so that others can build the same, with an SBOM and checksums, in target/dist
	@scripts/dist.sh

fuzz: ## fuzz whatever reads what others wrote, each target for a while (FUZZ_SECONDS=30 FUZZ_TARGETS="phone token"); wants nightly
	@scripts/fuzz.sh

clean-tools: ## remove what lint-tools and test-tools installed
	rm -rf .tools scripts/lint-tools/node_modules tests/foreign/node_modules
