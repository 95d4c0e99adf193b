# Throwaway PostgreSQL and MariaDB servers for the tests; source it from the root of the project, after lib.sh.
#
# They are in a temporary folder and on free ports of this machine, run as an unprivileged user, know their data as
# safe as a process is, and end with the script, however it ends: also when it is killed. What cannot be tested with them
# is added to `not_run`.

databases_folder=
databases_pids=()
not_run=()
running=
trap stop_databases EXIT
trap 'stop_running; exit 143' TERM
trap 'stop_running; exit 130' INT

# run COMMAND...: not in the foreground, where a signal to this shell would wait for its end.
run() {
  local status=0
  "$@" &
  running=$!
  wait "$running" || status=$?
  running=
  return "$status"
}

stop_running() {
  if [ -n "$running" ]; then
    kill -TERM "$running" 2>/dev/null || true
    wait "$running" || true
  fi
}

# stop_databases: ends the servers at once and removes what they wrote.
stop_databases() {
  local pid
  for pid in "${databases_pids[@]}"; do
    # PostgreSQL: immediate shutdown. MariaDB dumps its core at SIGQUIT, but cores are off. pgbouncer does not hear it where it was
    # ignored when this script began, as it is in the background of another one.
    kill -QUIT "$pid" 2>/dev/null || true
    kill -TERM "$pid" 2>/dev/null || true
  done
  for pid in "${databases_pids[@]}"; do
    wait "$pid" 2>/dev/null || true
  done
  databases_pids=()
  if [ -n "$databases_folder" ]; then
    rm -rf "$databases_folder"
  fi
}

# unprivileged COMMAND...: runs it as nobody if we are root, for whom the servers do not run.
unprivileged() {
  if [ "$(id -u)" -eq 0 ]; then
    setpriv --reuid nobody --regid nogroup --clear-groups "$@"
  else
    "$@"
  fi
}

# serve NAME COMMAND...: starts a server in the background, which dies when this shell does.
serve() {
  local name=$1
  shift
  (
    ulimit -c 0
    cd "$databases_folder"
    if [ "$(id -u)" -eq 0 ]; then
      exec setpriv --reuid nobody --regid nogroup --clear-groups --pdeathsig KILL "$@"
    else
      exec setpriv --pdeathsig KILL "$@"
    fi
  ) >"$databases_folder/$name.log" 2>&1 &
  databases_pids+=("$!")
}

make_databases_folder() {
  if [ -z "$databases_folder" ]; then
    databases_folder=$(mktemp -d "${TMPDIR:-/tmp}/phone-identity-databases.XXXXXX")
    if [ "$(id -u)" -eq 0 ]; then
      chown nobody:nogroup "$databases_folder"
    fi
  fi
}

# free_port: a port of 127.0.0.1 that nobody listens on now.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
}

# keep NAME: writes standard input into a file that the servers read, and nobody else.
keep() {
  unprivileged sh -c 'umask 077 && cat >"$1"' sh "$databases_folder/$1"
}

random_word() {
  od -An -N16 -tx1 /dev/urandom | tr -d ' \n'
}

# wait_for NAME PID COMMAND...: waits until the command succeeds; fails if the server ends before, or after 60 s.
wait_for() {
  local name=$1 pid=$2 started=$SECONDS
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ! kill -0 "$pid" 2>/dev/null || [ $((SECONDS - started)) -ge 60 ]; then
      tail -n 20 "$databases_folder/$name.log" >&2
      return 1
    fi
    sleep 0.1
  done
}

# make_certificate: sets TEST_DATABASE_CA, and makes a certificate for 127.0.0.1 that both servers have.
make_certificate() {
  make_databases_folder
  export TEST_DATABASE_CA=$databases_folder/ca.pem
  [ ! -e "$TEST_DATABASE_CA" ] || return 0
  need 'openssl version' openssl
  unprivileged sh -euc 'umask 077 && cd "$1"
    new="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    openssl req -x509 $new -subj "/CN=throwaway CA" -keyout ca-key.pem -out ca.pem
    openssl req $new -subj "/CN=throwaway server" -keyout key.pem -out request.pem
    echo subjectAltName=IP:127.0.0.1 >names
    openssl x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -days 1 -extfile names -out certificate.pem
    chmod 644 ca.pem' sh "$databases_folder" >"$databases_folder/openssl.log" 2>&1 ||
    { cat "$databases_folder/openssl.log" >&2 && die "openssl failed"; }
  chmod 711 "$databases_folder"
}

# start_postgres: sets TEST_POSTGRES_URL, unless it is set already.
start_postgres() {
  # The tests make dumps and restore them.
  need 'pg_dump --version && pg_restore --version && psql --version' postgresql-client
  if [ -n "${TEST_POSTGRES_URL:-}" ]; then
    say "PostgreSQL: the server of TEST_POSTGRES_URL"
    unset TEST_DATABASE_CA
    not_run+=("TLS to the server of TEST_POSTGRES_URL: who has signed its certificate is not known")
    return
  fi
  need 'ls /usr/lib/postgresql/*/bin/postgres' postgresql-15
  local bin data port password attempt
  bin=$(dirname "$(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V | tail -1)")
  make_certificate
  data=$databases_folder/postgres
  password=$(random_word)
  echo "$password" | keep password
  # The checksum of a password costs a test more than the rest of its connection.
  unprivileged "$bin/initdb" --pgdata "$data" --username postgres --auth-local trust --auth-host password \
    --pwfile "$databases_folder/password" --encoding UTF8 --locale C --no-sync --no-instructions >"$databases_folder/initdb.log" ||
    { cat "$databases_folder/initdb.log" >&2 && die "initdb failed"; }
  for attempt in 1 2 3; do
    port=$(free_port)
    # What is safe on disk is another test's matter.
    serve postgres "$bin/postgres" -D "$data" -p "$port" -k "$databases_folder" -c listen_addresses=127.0.0.1 \
      -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c wal_level=minimal -c max_wal_senders=0 \
      -c max_connections=200 -c shared_buffers=64MB -c ssl=on -c ssl_cert_file="$databases_folder/certificate.pem" \
      -c ssl_key_file="$databases_folder/key.pem"
    if wait_for postgres "$!" "$bin/pg_isready" -q -h 127.0.0.1 -p "$port"; then
      export TEST_POSTGRES_URL=postgres://postgres:$password@127.0.0.1:$port/postgres?sslmode=disable
      say "PostgreSQL: $("$bin/postgres" --version) on port $port"
      return
    fi
    say "PostgreSQL did not start (attempt $attempt)"
  done
  die "PostgreSQL does not start"
}

# start_mysql: starts MariaDB and sets TEST_MYSQL_URL, unless it is set already.
start_mysql() {
  need 'mariadb-dump --version || mysqldump --version' mariadb-client
  if [ -n "${TEST_MYSQL_URL:-}" ]; then
    say "MySQL: the server of TEST_MYSQL_URL"
    unset TEST_DATABASE_CA
    not_run+=("TLS to the server of TEST_MYSQL_URL: who has signed its certificate is not known")
    return
  fi
  # Debian's server depends on galera-4 and rsync. Other packages of it may not.
  need 'PATH=$PATH:/usr/sbin; mariadbd --version && command -v mariadb-install-db' mariadb-server
  need 'ls /usr/lib/galera/libgalera_smm.so && rsync --version' galera-4 rsync
  local data temporary port password attempt server
  server=$(PATH=$PATH:/usr/sbin command -v mariadbd)
  make_certificate
  data=$databases_folder/mysql
  password=$(random_word)
  temporary=$databases_folder/mysql-tmp
  # A server that starts removes the temporary tables that it finds, of other servers too.
  unprivileged mkdir "$temporary"
  unprivileged mariadb-install-db --no-defaults --datadir="$data" --tmpdir="$temporary" --skip-test-db \
    --auth-root-authentication-method=normal --innodb-log-file-size=16M >"$databases_folder/install.log" 2>&1 ||
    { cat "$databases_folder/install.log" >&2 && die "mariadb-install-db failed"; }
  keep users.sql <<SQL
ALTER USER root@localhost IDENTIFIED BY '$password';
CREATE OR REPLACE USER tester@'127.0.0.1' IDENTIFIED BY '$password';
GRANT ALL ON *.* TO tester@'127.0.0.1' WITH GRANT OPTION;
SQL
  for attempt in 1 2 3; do
    port=$(free_port)
    serve mysql "$server" --no-defaults --datadir="$data" --tmpdir="$temporary" --port="$port" \
      --bind-address=127.0.0.1 --socket="$databases_folder/mysql.sock" \
      --pid-file="$databases_folder/mysql.pid" --init-file="$databases_folder/users.sql" \
      --skip-name-resolve --skip-log-bin --max-connections=200 \
      --innodb-buffer-pool-size=64M --innodb-log-file-size=16M --innodb-flush-log-at-trx-commit=0 \
      --skip-innodb-doublewrite --performance-schema=OFF --ssl-cert="$databases_folder/certificate.pem" \
      --ssl-key="$databases_folder/key.pem"
    if wait_for mysql "$!" mariadb --no-defaults -h 127.0.0.1 -P "$port" -u tester -p"$password" -e 'SELECT 1'; then
      export TEST_MYSQL_URL=mysql://tester:$password@127.0.0.1:$port/mysql?ssl-mode=DISABLED
      say "MySQL: $("$server" --version) on port $port"
      not_run+=("MySQL 8, which Debian does not have: MariaDB ran, and the workflow of GitHub runs it")
      return
    fi
    say "MariaDB did not start (attempt $attempt)"
  done
  die "MariaDB does not start"
}

# start_pgbouncer: puts pgbouncer, which lends a connection for as long as its client is connected, in front of the server of
# TEST_POSTGRES_URL, and sets PGBOUNCER_URL.
start_pgbouncer() {
  need 'PATH=$PATH:/usr/sbin; pgbouncer --version' pgbouncer
  local port attempt bouncer
  bouncer=$(PATH=$PATH:/usr/sbin command -v pgbouncer)
  make_databases_folder
  for attempt in 1 2 3; do
    port=$(free_port)
    keep pgbouncer.ini <<INI
[databases]
* = $(postgres_parameters)
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = any
pool_mode = session
max_client_conn = 500
default_pool_size = 50
INI
    serve pgbouncer "$bouncer" "$databases_folder/pgbouncer.ini"
    if wait_for pgbouncer "$!" bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"; then
      export PGBOUNCER_URL=postgres://postgres@127.0.0.1:$port/postgres?sslmode=disable
      say "pgbouncer: $("$bouncer" --version | head -1) on port $port"
      return
    fi
    say "pgbouncer did not start (attempt $attempt)"
  done
  die "pgbouncer does not start"
}

# postgres_parameters: the server of TEST_POSTGRES_URL as pgbouncer wants to be told.
postgres_parameters() {
  local url=${TEST_POSTGRES_URL#*://} user address
  url=${url%%[/?]*}
  user=${url%@*} address=${url##*@}
  printf 'host=%s port=%s user=%s password=%s' "${address%:*}" "${address##*:}" "${user%%:*}" "${user#*:}"
}
