# Shared by the scripts here; source it from the root of the project.

# say WORDS: says what is being done.
say() {
  printf '==> %s\n' "$*" >&2
}

# die WORDS: ends the script.
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# need COMMAND PACKAGE...: where COMMAND fails, installs Debian's packages as root, or else tells the command that does.
need() {
  local command=$1
  shift
  bash -c "$command" >/dev/null 2>&1 && return
  local install="apt-get update && apt-get install -y --no-install-recommends $*"
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    say "installing $*"
    DEBIAN_FRONTEND=noninteractive bash -c "$install" >&2 || die "this failed: $install"
    hash -r
    bash -c "$command" >/dev/null 2>&1 || die "\`$command\` still fails after installing $*"
  else
    die "\`$command\` fails; install what it needs, on Debian: sudo sh -c '$install'"
  fi
}
