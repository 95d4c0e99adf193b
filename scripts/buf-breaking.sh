#!/usr/bin/env bash
# Checks that proto/ breaks no caller of the commit before (and of HEAD, where proto/ has uncommitted changes), nor of
# the last tag. What there is nothing to compare with, as in a shallow clone, is said and passed over.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT

# against WHAT REVISION
against() {
  local what=$1 commit
  if ! commit=$(git rev-parse --quiet --verify "$2^{commit}"); then
    say "not compared with $what: there is none here"
  elif ! git cat-file -e "$commit:proto" 2>/dev/null; then
    say "not compared with $what: it has no proto/"
  else
    say "buf breaking --against $what (${commit:0:12})"
    mkdir "$before/$commit"
    git archive "$commit" proto | tar -x -C "$before/$commit"
    buf breaking --against "$before/$commit/proto"
  fi
}

if [ ! -e .git ]; then
  say "buf breaking: not in a git clone, nothing to compare with"
  exit
fi
git rev-parse --git-dir >/dev/null # fails where git does not trust this folder, and says so

against "the commit before" HEAD~1
if [ -n "$(git status --porcelain -- proto)" ]; then
  against "the last commit" HEAD
fi
# `HEAD~1`: a commit that is tagged itself is compared with the release before it.
against "the last tag" "$(git describe --tags --abbrev=0 HEAD~1 2>/dev/null || echo no-tag)"
