#!/usr/bin/env bash
# Builds the image and runs it: `make image-check`. By buildah, without a daemon and without a registry (see image-bases.sh), and
# without a container runtime, of which Debian's does not know all kernels: namespaces, a read-only root and the image's user are
# what util-linux makes, too. Who is not root becomes root of a user namespace of their own. COMPARE_DIST=1 compares the binary with that
# of `make dist`, which was run before.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/image-bases.sh

# What it may have at most, in bytes.
largest=40000000
image=localhost/phone-identity:check

need 'buildah --version' buildah
need 'python3 --version' python3
need 'PATH=$PATH:/usr/sbin:/sbin; ip -V' iproute2
if [ "$(id -u)" -ne 0 ]; then
  exec buildah unshare "$0" "$@"
fi

work=
running=
# Ends what we have started, however we end.
clean_up() {
  if [ -n "$running" ]; then
    # What it runs dies with it.
    kill -KILL "$running" 2>/dev/null || true
    wait "$running" 2>/dev/null || true
  fi
  if [ -n "$work" ]; then
    buildah_here umount --all >/dev/null 2>&1 || true
    buildah_here rm --all >/dev/null 2>&1 || true
    rm -rf "$work"
  fi
}
trap clean_up EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

# of_image EXPRESSION: what Python's expression gives for the image's configuration c.
of_image() {
  python3 -c 'import json, sys; c = json.load(sys.stdin)["Docker"]["config"]; print('"$1"')' <"$work/image.json"
}

expect() {
  local what=$1 value=$2 expected=$3
  [ "$value" = "$expected" ] || die "$what is '$value' and should be '$expected'"
  say "$what: $value"
}

# start MODE NAME=value...: runs the image in the background, as its user and without any capability, with processes and a network
# of its own. MODE `ro` is as Kubernetes runs it with our manifests: it can write to its volume and nowhere else.
start() {
  local mode=$1
  shift
  rm -rf "$work/data"
  mkdir -p "$work/data"
  # What a volume gets from the image.
  chown 65532:65532 "$work/data"
  # shellcheck disable=SC2016 # it is the inner shell's
  unshare --mount --pid --net --ipc --uts --fork --kill-child bash -euc '
    root=$1 data=$2 mode=$3
    shift 3
    PATH=$PATH:/usr/sbin:/sbin ip link set lo up
    mount --bind "$root" "$root"
    mount --bind "$data" "$root/data"
    mount -t proc proc "$root/proc"
    mount -t tmpfs -o mode=755,size=64k tmpfs "$root/dev"
    for device in null urandom; do
      touch "$root/dev/$device"
      mount --bind "/dev/$device" "$root/dev/$device"
    done
    if [ "$mode" = ro ]; then
      mount -o remount,bind,ro "$root"
      mount -o remount,ro "$root/dev"
    fi
    # The image has no commands for this, so those of the machine change their root themselves.
    exec env --ignore-environment "$@"' bash "$root" "$work/data" "$mode" \
    "${environment[@]}" "$@" "$(command -v setpriv)" --no-new-privs "$(command -v unshare)" --root="$root" --wd="$workdir" \
    --setgid=65532 --setuid=65532 "${entrypoint[@]}" "${command[@]}" >"$work/log" 2>&1 &
  running=$!
}

# inside COMMAND...: as `docker exec`.
inside() {
  nsenter --target "$(first_process)" --mount --pid --net --ipc --uts env --ignore-environment "${environment[@]}" \
    "$(command -v setpriv)" --no-new-privs "$(command -v unshare)" --root="$root" --wd="$workdir" --setgid=65532 --setuid=65532 "$@"
}

# The process of the image, which has number 1 there.
first_process() {
  local child=
  # The file has no line end.
  read -r child _ <"/proc/$running/task/$running/children" || [ -n "$child" ]
  echo "$child"
}

# The HEALTHCHECK of the image, until it is well, or for a minute.
wait_until_healthy() {
  local started=$SECONDS
  until inside "${healthcheck[@]}" >"$work/health" 2>&1; do
    if ! kill -0 "$running" 2>/dev/null || [ $((SECONDS - started)) -ge 60 ]; then
      cat "$work/health" "$work/log" >&2
      die "the image does not become healthy"
    fi
    sleep 0.2
  done
}

# Waits for the end, for half a minute, and sets `ended` to its exit code.
wait_for_end() {
  local code=0 watchdog
  { sleep 30 && kill -KILL "$running"; } >/dev/null 2>&1 &
  watchdog=$!
  wait "$running" || code=$?
  running=
  kill "$watchdog" 2>/dev/null || true
  ended=$code
}

commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
version=$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"$/\1/p' Cargo.toml)
choose_image_driver
make_bases
say "building the image with buildah ($image_driver)"
# The commit is not taken from a dirty folder, either: it says which commit was checked out. HEALTHCHECK is of docker's format.
buildah_here build --quiet --layers --isolation chroot --format docker --pull-never --file "$image_dockerfile" \
  --build-arg "PHONE_IDENTITY_COMMIT=$commit" --build-arg "PHONE_IDENTITY_VERSION=$version" --tag "$image" . >&2

work=$(mktemp -d "${TMPDIR:-/tmp}/phone-identity-image.XXXXXX")
buildah_here inspect --type image "$image" >"$work/image.json"
root=$(buildah_here mount "$(buildah_here from --pull-never "$image")")
bytes=$(du --summarize --apparent-size --block-size=1 "$root" | cut -f1)
[ "$bytes" -lt "$largest" ] || die "the image has $bytes bytes, more than $largest"
say "files of the image: $bytes bytes"

expect "user" "$(of_image 'c["User"]')" 65532:65532
expect "volumes" "$(of_image '" ".join(c["Volumes"])')" /data
expect "label revision" "$(of_image 'c["Labels"]["org.opencontainers.image.revision"]')" "$commit"
expect "label version" "$(of_image 'c["Labels"]["org.opencontainers.image.version"]')" "$version"
read -ra healthcheck <<<"$(of_image '" ".join(c["Healthcheck"]["Test"][1:])')"
entrypoint=("$(of_image 'c["Entrypoint"][0]')")
command=("$(of_image 'c["Cmd"][0]')")
workdir=$(of_image 'c["WorkingDir"]')
mapfile -t environment < <(of_image '"\n".join(c["Env"])')
mkdir -p "$root"/{data,dev,proc}
if [ -n "${COMPARE_DIST:-}" ]; then
  cmp "$root/usr/local/bin/phone-identity" target/dist/phone-identity-"$version"-*-gnu || die "make dist has built another binary"
  say "the binary is that of make dist"
fi
[ ! -e "$root/bin/sh" ] && [ ! -e "$root/usr/bin/sh" ] || die "there is a shell in the image"

say "as it is, it refuses to serve everybody"
start ro
wait_for_end
expect "exit code" "$ended" 2
grep -q -- --insecure "$work/log" || { cat "$work/log" >&2 && die "that is not why"; }

say "read-only, and with service keys"
start ro PHONE_IDENTITY_REQUIRE_SERVICE_KEY=true PHONE_IDENTITY_SHUTDOWN_DELAY=0s
wait_until_healthy
expect "version" "$(inside /usr/local/bin/phone-identity --version)" "phone-identity $version ($commit)"
inside /usr/local/bin/phone-identity healthcheck --service readiness >&2
inside /usr/local/bin/phone-identity createsuperuser --phone-number +998901234567 --password-stdin <<<'a high hill at noon 9' >&2
[ -s "$work/data/phone-identity.db" ] || die "the database is not in the volume"
if inside /usr/local/bin/phone-identity backup /tmp/backup.db 2>"$work/refused"; then
  die "it wrote outside of the volume"
fi
grep -q 'Read-only file system' "$work/refused" || { cat "$work/refused" >&2 && die "that is not why"; }
if inside /usr/local/bin/phone-identity healthcheck --address 127.0.0.1:1 >/dev/null 2>&1; then
  die "healthcheck says that all is well where nobody listens"
fi
kill -TERM "$(first_process)"
wait_for_end
expect "exit code after SIGTERM" "$ended" 0

say "with a root that could be written, to see that nothing is"
find "$root" -printf '%p %s %T@ %m\n' | sort >"$work/before"
start rw PHONE_IDENTITY_REQUIRE_SERVICE_KEY=true PHONE_IDENTITY_SHUTDOWN_DELAY=0s
wait_until_healthy
inside /usr/local/bin/phone-identity createsuperuser --phone-number +998901234567 --password-stdin <<<'a high hill at noon 9' >&2
inside /usr/local/bin/phone-identity backup backup.db >&2
kill -TERM "$(first_process)"
wait_for_end
expect "exit code after SIGTERM" "$ended" 0
find "$root" -printf '%p %s %T@ %m\n' | sort >"$work/after"
diff "$work/before" "$work/after" >&2 || die "that was written outside of the volume"

say "image-check: all good: $image, $bytes bytes"
