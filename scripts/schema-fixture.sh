#!/usr/bin/env bash
# Makes tests/data/schema-NAME: what a database of today's schema looks like, for each backend, with people and sessions
# as they can be. `scripts/schema-fixture.sh NAME` is run once for a release that changes the schema; what it made is never
# changed then, since tests/api/upgrades.rs shows by it that nothing gets lost in an upgrade.
#
# Each backend has a .sql, dumped by its own tool, and a .tsv that says who is in it: phone number, password, what to
# expect, session tokens that are good, and session tokens that are not; with commas between, and `-` for nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/databases.sh

[ $# -eq 1 ] || die "usage: $0 NAME"
folder=$PWD/tests/data/schema-$1
[ ! -e "$folder" ] || die "$folder is there already, and is not changed"
PATH=${PHONE_IDENTITY_TEST_TOOLS:-$PWD/.tools/venv}/bin:$PATH
grpcurl --version >/dev/null 2>&1 || die "there is no grpcurl: run \`make test-tools\`"
need 'sqlite3 --version' sqlite3
cargo build --locked
binary=$PWD/target/debug/phone-identity
work=$(mktemp -d)
trap 'rm -rf "$work"; stop_databases' EXIT
made=$work/made
mkdir "$made"

# call RPC JSON [BEARER]
call() {
  grpcurl -plaintext ${3:+-H "authorization: Bearer $3"} -d "$2" "$address" "phone_identity.v1.PhoneIdentity/$1"
}

# token: the session token in an answer.
token() {
  grep -o 'pid_[0-9A-Za-z]*'
}

# person NUMBER PASSWORD EXPECTATION GOOD-TOKENS BAD-TOKENS
person() {
  local IFS=$'\t'
  echo "$*" >>"$made/$backend.tsv"
}

# people: makes one of each kind.
people() {
  local first second third number client
  client='{"ip_address": "2001:db8::7", "user_agent": "Example/1.0 (телефон; O‘zbekiston 📱)"}'
  number=+998901000001
  first=$(call Register "{\"phone_number\": \"$number\", \"password\": \"a quiet lake at dawn 1\", \"client\": $client}" | token)
  second=$(call Authenticate "{\"phone_number\": \"$number\", \"password\": \"a quiet lake at dawn 1\", \"client\": {\"ip_address\": \"203.0.113.9\"}}" | token)
  third=$(call Authenticate "{\"phone_number\": \"$number\", \"password\": \"a quiet lake at dawn 1\"}" | token)
  call RevokeSession "{\"session_token\": \"$third\"}" >/dev/null
  person $number 'a quiet lake at dawn 1' active "$first,$second" "$third"

  # Who has changed all that can be changed.
  first=$(call Register '{"phone_number": "+998901000009", "password": "a quiet lake at dawn 2"}' | token)
  second=$(call Authenticate '{"phone_number": "+998901000009", "password": "a quiet lake at dawn 2"}' | token)
  call UpdateProfile '{"current_password": "a quiet lake at dawn 2", "new_phone_number": "+16502530000", "new_password": "тихое озеро на заре 2", "locale": "uz-Latn-UZ"}' "$second" >/dev/null
  person +16502530000 'тихое озеро на заре 2' active "$second" "$first"
  person +998901000009 'a quiet lake at dawn 2' unknown - -

  first=$(call Register '{"phone_number": "+998901000003", "password": "a quiet lake at dawn 3"}' | token)
  call DeactivateProfile '{"current_password": "a quiet lake at dawn 3"}' "$first" >/dev/null
  person +998901000003 'a quiet lake at dawn 3' deactivated - "$first"

  first=$(call Register '{"phone_number": "+998901000004", "password": "a quiet lake at dawn 4"}' | token)
  call DeleteProfile '{"current_password": "a quiet lake at dawn 4"}' "$first" >/dev/null
  person +998901000004 'a quiet lake at dawn 4' unknown - "$first"

  echo 'a quiet lake at dawn 5' | "$binary" createsuperuser --phone-number +998901000005 --password-stdin >/dev/null
  first=$(call Authenticate '{"phone_number": "+998901000005", "password": "a quiet lake at dawn 5"}' | token)
  person +998901000005 'a quiet lake at dawn 5' superuser "$first" -

  # What no RPC makes yet, and the schema has columns for.
  first=$(call Register '{"phone_number": "+998901000006", "password": "a quiet lake at dawn 6"}' | token)
  sql "UPDATE users SET password_hash = NULL, phone_verified_at = created_at, is_staff = TRUE WHERE phone_number = '+998901000006'"
  person +998901000006 'a quiet lake at dawn 6' unknown "$first" -
}

# fixture BACKEND URL: makes the people in an empty database.
fixture() {
  backend=$1
  export DATABASE_URL=$2
  local server
  "$binary" serve --listen 127.0.0.1:0 >"$work/address" 2>"$work/log" &
  server=$!
  databases_pids+=("$server")
  until address=$(sed -n 's/^listening on //p' "$work/address") && [ -n "$address" ]; do
    kill -0 "$server" || { cat "$work/log" >&2 && die "the service does not start"; }
    sleep 0.1
  done
  people
  kill -TERM "$server"
  wait "$server"
}

# sql STATEMENT: runs it on the database of this backend.
sql() {
  case $backend in
  sqlite) sqlite3 "$work/fixture.db" "$1" ;;
  postgres) psql --no-psqlrc --quiet --command "$1" "$DATABASE_URL" ;;
  mysql) mysql_tool mariadb --execute "$1" fixture ;;
  esac
}

# mysql_tool COMMAND...: with the login of TEST_MYSQL_URL, mysql://USER:PASSWORD@HOST:PORT/...
mysql_tool() {
  local login=${TEST_MYSQL_URL#*://} tool=$1
  local user=${login%%:*} rest=${login#*:}
  local password=${rest%%@*} server=${rest#*@}
  server=${server%%/*}
  shift
  MYSQL_PWD=$password "$tool" --no-defaults --host "${server%%:*}" --port "${server##*:}" --user "$user" "$@"
}

# database_url SERVER-URL: the same with another database.
database_url() {
  local parameters=
  [[ $1 != *\?* ]] || parameters="?${1#*\?}"
  local server=${1%%\?*}
  echo "${server%/*}/fixture$parameters"
}

fixture sqlite "sqlite://$work/fixture.db"
sqlite3 "$work/fixture.db" .dump >"$made/sqlite.sql"

start_postgres
psql --no-psqlrc --quiet --command 'CREATE DATABASE fixture' "$TEST_POSTGRES_URL"
fixture postgres "$(database_url "$TEST_POSTGRES_URL")"
# Without what only psql of the same age knows.
pg_dump --inserts --no-owner --no-privileges "$DATABASE_URL" | sed -E '/^\\(un)?restrict /d' >"$made/postgres.sql"

start_mysql
mysql_tool mariadb --execute 'CREATE DATABASE fixture'
fixture mysql "$(database_url "$TEST_MYSQL_URL")"
# Without what only MariaDB's own client knows.
mysql_tool mariadb-dump --single-transaction --hex-blob --skip-dump-date fixture | sed '1{/sandbox/d}' >"$made/mysql.sql"

mv "$made" "$folder"
say "made $folder"
