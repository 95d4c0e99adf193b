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

# without_daemons COMMAND...: runs it while Debian's packages start no daemon that they bring: their scripts ask
# policy-rc.d, which answers 101 for no. Where there is one already, as in containers, it decides.
without_daemons() {
  local policy=/usr/sbin/policy-rc.d status=0
  if [ -e "$policy" ]; then
    "$@"
    return
  fi
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  "$@" || status=$?
  rm -f "$policy"
  return "$status"
}

# need COMMAND PACKAGE...: where COMMAND fails, installs Debian's packages as root, or else tells the command that does.
need() {
  local command=$1
  shift
  bash -c "$command" >/dev/null 2>&1 && return
  local install="apt-get update && apt-get install -y --no-install-recommends $*"
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    say "installing $*"
    without_daemons env DEBIAN_FRONTEND=noninteractive bash -c "$install" >&2 || die "this failed: $install"
    hash -r
    bash -c "$command" >/dev/null 2>&1 || die "\`$command\` still fails after installing $*"
  else
    die "\`$command\` fails; install what it needs, on Debian: sudo sh -c '$install'"
  fi
}
