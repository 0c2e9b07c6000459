# A PostgreSQL server that lasts until standard input ends: with the process that holds the other end, however that ends.
#
# Arguments: folder of the server's programs, port, more settings for postgresql.conf. Says "ready FOLDER" when it runs.
set -eu
programs="$1" port="$2" settings="$3"
folder="$(mktemp -d "${TMPDIR:-/tmp}/fhir-export-postgres.XXXXXX")"
leave() {
  "$programs/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1 || true
  rm -rf "$folder"
}
trap leave EXIT
trap '' INT TERM HUP
cd "$folder"
"$programs/initdb" -D data -U postgres --auth=trust -E UTF8 --locale=C --no-sync >init.log 2>&1 || { cat init.log >&2; exit 1; }
cat >>data/postgresql.conf <<CONFIGURATION
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$folder'
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
max_prepared_transactions = 10
shared_buffers = 256MB
max_wal_size = 2GB
jit = off
$settings
CONFIGURATION
cat >data/pg_hba.conf <<ACCESS
local all all trust
host all with_password 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
ACCESS
"$programs/pg_ctl" -D data -w -t 120 -l server.log start >start.log 2>&1 </dev/null || { cat start.log server.log >&2; exit 1; }
echo "ready $folder"
cat >/dev/null || true
