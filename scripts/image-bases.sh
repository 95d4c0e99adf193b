# The base images of the Dockerfile, where no registry can be reached; source it from the root of the project, after lib.sh.
#
# They are stand-ins under the names of the real ones, made of Debian's packages and of the Rust toolchain of this machine: good
# for checking the Dockerfile and what it makes, and not to be published.

# The commands of buildah, with a storage of its own: nothing of it is left in that of the user. overlay where the kernel lets
# us, or else vfs, which copies the whole image for each step.
image_folder=$PWD/target/image
image_driver=
image_dockerfile=

buildah_here() {
  buildah --root "$image_folder/storage" --runroot "$image_folder/run" --storage-driver "$image_driver" "$@"
}

choose_image_driver() {
  local driver container
  mkdir -p "$image_folder"
  for driver in overlay vfs; do
    image_driver=$driver
    # What was made with one driver is not to be found with the other one.
    if [ -e "$image_folder/driver" ] && [ "$(cat "$image_folder/driver")" != "$driver" ]; then
      continue
    fi
    if container=$(buildah_here from scratch 2>/dev/null) && buildah_here mount "$container" >/dev/null 2>&1; then
      buildah_here rm "$container" >/dev/null
      echo "$driver" >"$image_folder/driver"
      return
    fi
  done
  die "buildah can use neither overlay nor vfs here"
}

# make_bases: pulls the base images of the Dockerfile by their digests, or makes stand-ins. Sets image_dockerfile to a copy of the
# Dockerfile that names each stand-in without a digest, which only the real image has.
make_bases() {
  local pinned name
  image_dockerfile=$image_folder/Dockerfile
  cp Dockerfile "$image_dockerfile"
  while read -r pinned; do
    name=${pinned%@*}
    if buildah_here inspect --type image "$pinned" >/dev/null 2>&1; then
      continue
    elif buildah_here inspect --type image "$name" >/dev/null 2>&1; then
      name_stand_in "$pinned"
      continue
    elif [ -z "${IMAGE_BASES_LOCAL:-}" ] && timeout 300 "$(command -v buildah)" --root "$image_folder/storage" \
      --runroot "$image_folder/run" --storage-driver "$image_driver" pull --quiet "$pinned" >"$image_folder/pull.log" 2>&1; then
      say "pulled $pinned"
    else
      say "no registry has $name for us: making a stand-in"
      case $name in
        */rust:*) make_rust_base "$name" ;;
        */base-nossl-debian12:*) make_runtime_base "$name" ;;
        *) die "there is no stand-in for $name" ;;
      esac
      name_stand_in "$pinned"
    fi
  # Not the stages of the Dockerfile itself: the real ones name their registry.
  done < <(sed -n 's/^FROM \([^ ]*\.[^ ]*\).*/\1/p' Dockerfile)
}

# name_stand_in PINNED: takes the digest of this image out of the copy of the Dockerfile.
name_stand_in() {
  sed -i "s|^FROM $1|FROM ${1%@*}|" "$image_dockerfile"
}

# A Debian with a C compiler, and the toolchain that builds this project here.
make_rust_base() {
  need 'mmdebstrap --version' mmdebstrap
  local name=$1 wanted sysroot container folder
  sysroot=$(rustc --print sysroot)
  wanted=${name##*:}
  wanted=${wanted%%-*}
  [[ $(rustc --version) == "rustc $wanted"* ]] || die "$name cannot be made here: this is $(rustc --version)"
  container=$(buildah_here from scratch)
  folder=$(buildah_here mount "$container")
  mmdebstrap --quiet --variant=apt --include=ca-certificates,gcc,libc6-dev,make bookworm "$folder" >&2
  # Of the machine: it may reach crates.io through a proxy with an authority of its own.
  cp -L /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/ca-certificates.crt"
  mkdir -p "$folder/usr/local/rust/lib/rustlib" "$folder/usr/local/rust/bin" "$folder/usr/local/cargo"
  cp "$sysroot/bin/cargo" "$sysroot/bin/rustc" "$folder/usr/local/rust/bin/"
  cp -a "$sysroot"/lib/*.so* "$folder/usr/local/rust/lib/"
  cp -a "$sysroot/lib/rustlib/x86_64-unknown-linux-gnu" "$folder/usr/local/rust/lib/rustlib/"
  rm -rf "$folder"/var/cache/apt "$folder"/var/lib/apt/lists
  buildah_here umount "$container" >/dev/null
  buildah_here config --env CARGO_HOME=/usr/local/cargo \
    --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  buildah_here commit --quiet --rm "$container" "$name" >/dev/null
}

# The packages of which that image consists, unpacked, without what is documentation; and its user.
make_runtime_base() {
  local name=$1 container folder package
  rm -rf "$image_folder/packages"
  mkdir -p "$image_folder/packages"
  (
    cd "$image_folder/packages"
    # Who downloads need not be _apt, for whom this folder is not.
    apt-get -qq -o APT::Sandbox::User="$(id -un)" download base-files ca-certificates libc6 netbase tzdata >&2
  ) || die "Debian's packages cannot be had"
  container=$(buildah_here from scratch)
  folder=$(buildah_here mount "$container")
  for package in "$image_folder"/packages/*.deb; do
    dpkg-deb --extract "$package" "$folder"
  done
  cat "$folder"/usr/share/ca-certificates/mozilla/*.crt >"$folder/etc/ssl/certs/ca-certificates.crt"
  rm -rf "$folder"/usr/share/{doc,man,lintian,locale,ca-certificates} "$folder/usr/sbin"
  printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' >"$folder/etc/passwd"
  printf 'root:x:0:\nnonroot:x:65532:\n' >"$folder/etc/group"
  mkdir -p "$folder/home/nonroot"
  chown 65532:65532 "$folder/home/nonroot"
  chmod 1777 "$folder/tmp"
  buildah_here umount "$container" >/dev/null
  buildah_here config --user 65532 --workingdir /home/nonroot \
    --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    --env SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "$container"
  buildah_here commit --quiet --rm "$container" "$name" >/dev/null
}
