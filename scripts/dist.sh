#!/usr/bin/env bash
# `make dist`: the release binary, in target/dist, so that others who have the same commit and the same compiler build the same one,
# whatever their folders are called; with an SBOM (CycloneDX) of what is in it, and checksums.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

cyclonedx=0.5.9
version=$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"$/\1/p' Cargo.toml)
target=$(rustc --version --verbose | sed -n 's/^host: //p')
name=phone-identity-$version-$target
dist=$PWD/target/dist

if [ -n "$(git status --porcelain 2>/dev/null)" ]; then
  say "WARNING: what is not committed is in it, too"
fi
export PATH="$PWD/.tools/cargo/bin:$PATH"
# Asked by that name only, it takes `--version` for an option of its subcommand.
if [[ " $(cargo-cyclonedx cyclonedx --version 2>/dev/null) " != *" $cyclonedx "* ]]; then
  say "building cargo-cyclonedx $cyclonedx"
  CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
    cargo install --quiet --locked --force --root .tools/cargo --version "$cyclonedx" cargo-cyclonedx
fi

# Where it is built is not to be seen in what is built: the Dockerfile says the same. A folder of its own, since other flags build
# everything anew.
say "building $name"
# SOURCE_DATE_EPOCH is what C compilers take for the time of the build.
export CARGO_INCREMENTAL=0 SOURCE_DATE_EPOCH=0 CARGO_TARGET_DIR=$PWD/target/dist-build
# Of several that fit, the last one counts.
export RUSTFLAGS="--remap-path-prefix=$PWD=/phone-identity --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo \
--remap-path-prefix=$CARGO_TARGET_DIR=/phone-identity/target"
cargo build --release --locked --bin phone-identity
rm -rf "$dist"
mkdir -p "$dist"
cp "$CARGO_TARGET_DIR/release/phone-identity" "$dist/$name"

say "listing what is in it"
# Of the lock file, for this target; without what is only for building and testing. Times and serial numbers would differ.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
cargo cyclonedx --format json --target "$target" --no-build-deps --override-filename "$name.cdx" --quiet
# It names packages of the workspace by their folders.
sed "s#$PWD#/phone-identity#g" "$name.cdx.json" >"$dist/$name.cdx.json"
rm -f "$name.cdx.json" "migration/$name.cdx.json"

(cd "$dist" && sha256sum "$name" "$name.cdx.json" >SHA256SUMS && cat SHA256SUMS)
