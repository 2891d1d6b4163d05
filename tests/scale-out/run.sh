#!/bin/sh
# docs/guide/scale-out.md on one machine: each of its machines is a network namespace, with the names that the guide uses, and each command
# line is the one that the guide prints. First turns for a while, which says what one takes of each process; then every server and every
# substrate is replaced, one by one, while turns go on: not one may fail.
#   cargo build --release --locked -p turnkit-server --features full
#   sudo sh tests/scale-out/run.sh target/release/turnkit [clients] [seconds]
# Needs PostgreSQL, Redis, nginx, ip, curl and Node.
set -eu
if [ "${INSIDE:-}" != 1 ]; then
  INSIDE=1 exec unshare --net --mount --pid --fork --kill-child --mount-proc sh "$0" "$@"
fi
turnkit=$(realpath "$1")
clients=${2:-30}
seconds=${3:-20}
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
work=$(mktemp -d)
chmod 755 "$work"
trap 'status=$?; kill -9 -1 2>/dev/null; [ $status = 0 ] && rm -rf "$work"; exit $status' EXIT

# The machines, with an /etc of their own.
cp -a /etc "$work/etc"
mount --bind "$work/etc" /etc
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
ip link add lan type bridge
ip address add 10.9.0.1/24 dev lan
ip link set lan up
number=10
: > /etc/hosts
machine() {
  number=$((number + 1))
  ip netns add "$1"
  ip link add "to-$1" type veth peer name lan netns "$1"
  ip link set "to-$1" master lan up
  ip -n "$1" address add "10.9.0.$number/24" dev lan
  ip -n "$1" link set lan up
  ip -n "$1" link set lo up
  echo "10.9.0.$number $*" >> /etc/hosts
}
for name in postgres redis server-1 server-2 substrate-1 substrate-2 substrate-3; do machine "$name"; done
machine nginx substrates

# on MACHINE COMMAND…: in the background there; its process id is in a file of that name.
on() {
  name=$1
  shift
  ip netns exec "$name" "$@" > "$work/$name.out" 2>> "$work/$name.log" &
  echo $! > "$work/$name.pid"
}
until_true() {
  tries=0
  until "$@" > /dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || { echo "never: $*" >&2; exit 1; }
    sleep 0.1
  done
}

export PASSWORD=secret-of-postgres SUBSTRATE_TOKEN=0123456789abcdef0123456789abcdef
TOKEN=fedcba9876543210fedcba9876543210
mkdir -p /etc/turnkit
echo "$TOKEN acme ann" > /etc/turnkit/tokens
chmod 600 /etc/turnkit/tokens

programs=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
install -d -o postgres "$work/postgres"
echo "$PASSWORD" > "$work/password"
runuser -u postgres -- "$programs/initdb" -D "$work/postgres/data" -U turnkit --auth=scram-sha-256 --pwfile="$work/password" -E UTF8 > "$work/initdb.log"
echo "host all all 10.9.0.0/24 scram-sha-256" >> "$work/postgres/data/pg_hba.conf"
on postgres runuser -u postgres -- "$programs/postgres" -D "$work/postgres/data" -h 0.0.0.0 -k "$work/postgres"
export PGPASSWORD=$PASSWORD
until_true psql -h postgres -U turnkit postgres -c 'CREATE DATABASE turnkit'
sql() { psql -h postgres -U turnkit turnkit -Atc "$1"; }
mkdir "$work/redis"
on redis redis-server --dir "$work/redis" --bind 0.0.0.0 --protected-mode no --save '' --appendonly yes --maxmemory-policy noeviction
until_true redis-cli -h redis ping
sed 's/\(.*\)substrate-2:8788\(.*\)/&\n\1substrate-3:8788\2/' "$root/deploy/scale-out.nginx.conf" > "$work/nginx.conf"
on nginx nginx -c "$work/nginx.conf" -p "$work" -g "daemon off; pid $work/nginx-master.pid; error_log $work/nginx-error.log;"

# The lines of the guide's chapter "Start it".
mkdir "$work/bin"
ln -s "$turnkit" "$work/bin/turnkit"
export PATH="$work/bin:$PATH"
printed() {
  sed -n '/^## Start it/,/^## PostgreSQL/p' "$root/docs/guide/scale-out.md" | sed -n '/^```sh/,/^```/p' \
    | sed -n "/^# on each machine for $1/,/^\$/p" | grep -v -e '^#' -e '^```'
}
substrate() { on "$1" sh -c "$(printed agents | sed 's/ turnkit / exec turnkit /')"; }
server() { on "$1" sh -c "$(printed servers | sed 's/^  turnkit /  exec turnkit /')"; }
is_ready() { curl -sf "http://$1/ready"; }
for name in substrate-1 substrate-2 substrate-3; do substrate "$name"; done
for name in server-1 server-2; do server "$name"; done
for at in substrate-1:8788 substrate-2:8788 substrate-3:8788 server-1:8787 server-2:8787; do until_true is_ready "$at"; done
echo "all are ready: $(sql 'SHOW server_version'), $(redis-server --version | cut -d' ' -f3), $(nginx -v 2>&1)"

# What each has taken so far: clock ticks of user and system, and of Redis and PostgreSQL what they were asked.
ticks() {
  total=0
  for process in $(pgrep -f "$1"); do
    more=$(sed 's/.*) //' "/proc/$process/stat" 2>/dev/null | cut -d' ' -f12,13 | tr ' ' '+')
    total=$((total + ${more:-0}))
  done
  echo "$total"
}
taken() {
  calls=$(redis-cli -h redis INFO stats | tr -d '\r' | sed -n 's/^total_commands_processed://p')
  commits=$(sql "SELECT xact_commit FROM pg_stat_database WHERE datname = 'turnkit'")
  echo "$(ticks 'turnkit serve') $(ticks 'turnkit substrate') $(ticks redis-server) $(ticks postgres) $(ticks nginx) $calls $commits"
}
load="node $here/load.mjs http://nginx:8787 $TOKEN $clients"

set -- $(taken)
$load "$seconds" | tee "$work/steady"
after=$(taken)
turns=$(sed -n 's/^\([0-9]*\) turns.*/\1/p' "$work/steady")
events=$(sed -n 's/.* \([0-9]*\) events.*/\1/p' "$work/steady")
for what in "servers, ms of CPU" "substrates, ms of CPU" "Redis, ms of CPU" "PostgreSQL, ms of CPU" "nginx, ms of CPU" \
  "Redis, commands in scripts and without" "PostgreSQL, transactions"; do
  case $what in *CPU) unit=10 ;; *) unit=1 ;; esac
  echo "$what: $(echo "$after" | awk -v before="$1" -v unit=$unit -v turns="$turns" -v events="$events" \
    '{ printf "%.2f a turn, %.3f an event", ($1 - before) * unit / turns, ($1 - before) * unit / events }')"
  after=${after#* }
  shift
done

# A rolling deploy, as the guide says it.
$load until-told > "$work/rolling" &
loading=$!
sleep 5
replace() {
  old=$(cat "$work/$1.pid")
  kill -TERM "$old"
  wait "$old" && status=0 || status=$?
  echo "$1: ended with $status"
  [ $status = 0 ]
  "${1%-*}" "$1"
  until_true is_ready "$1:$2"
}
for name in server-1 server-2; do replace "$name" 8787; sleep 2; done
for name in substrate-1 substrate-2 substrate-3; do replace "$name" 8788; sleep 2; done
sleep 5
kill -TERM $loading
wait $loading && status=0 || status=$?
cat "$work/rolling"
[ $status = 0 ] || { echo "a turn has failed; logs: $work" >&2; exit 1; }
sql "SELECT state, count(*) FROM turnkit_turns GROUP BY state"
