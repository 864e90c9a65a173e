#!/usr/bin/env bash
# Shows OMail VPN at work: three network namespaces, a full tunnel with NAT, a download, pings, speed, clean-up.
#
#   client                       internet                           server
#   100.64.1.2      ---veth---   router                 ---veth---  203.0.113.2
#   2001:db8:1::2                198.51.100.80 (web)                2001:db8:203::2
#
# Use: bash scripts/demo.sh [--no-build]     --no-build: with the executables that are there
# Needs root and /dev/net/tun. On a fresh Debian or Ubuntu it installs what it uses (scripts/setup.sh). All traffic
# stays inside the namespaces that it makes; they are removed in the end, also after a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly WEB=198.51.100.80 WEB6=2001:db8:80::80
readonly SERVER=203.0.113.2 SERVER6=2001:db8:203::2
readonly CLIENT=100.64.1.2 CLIENT6=2001:db8:1::2
readonly INNER=10.8.0.1 INNER6=fd08:8::1
readonly FILE_MEGABYTES=100 IPERF_SECONDS=3 PINGS=20
readonly C="omdemo$$c" I="omdemo$$i" S="omdemo$$s"

FILES=""
PIDS=()
FAILURES=0

fail() {
  printf 'demo: %s\n' "$1" >&2
  exit "${2:-1}"
}

# --- Set-up and removal -----------------------------------------------------------------------------------------

prepare() {
  [[ $(id -u) -eq 0 ]] || fail "network namespaces and TUN devices need root: please run \"sudo bash scripts/demo.sh\"" 5
  # shellcheck source=scripts/setup.sh
  source scripts/setup.sh
  setup_check_machine || exit 5
  if [[ ${1:-} != --no-build ]]; then
    bun run build >"$FILES/build.log" 2>&1 || fail "the build failed"
  fi
  [[ -x omail-server && -x omail-client ]] || fail "there are no executables: run it without --no-build"
  ip netns add "$C" || fail "network namespaces cannot be made here: a container needs CAP_SYS_ADMIN (--privileged)" 5
  ip netns del "$C"
}

in_client() { ip netns exec "$C" "$@"; }
in_internet() { ip netns exec "$I" "$@"; }
in_server() { ip netns exec "$S" "$@"; }

# Starts a program in a namespace, in the background: start NAMESPACE LOG COMMAND…
start() {
  local namespace=$1 log=$2
  shift 2
  ip netns exec "$namespace" "$@" >"$FILES/$log" 2>&1 &
  PIDS+=("$!")
}

# Ends one program in an orderly way: finish PID
finish() {
  kill -TERM "$1" 2>/dev/null || true
  wait "$1" || return $?
}

remove_all() {
  local status=$? pid
  trap - EXIT INT TERM
  for pid in "${PIDS[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  for namespace in "$C" "$I" "$S"; do ip netns del "$namespace" 2>/dev/null || true; done
  if [[ $status -ne 0 && -n $FILES ]]; then
    for log in "$FILES"/*.log; do
      [[ -s $log ]] && printf '\n--- %s\n%s\n' "${log##*/}" "$(tail -n 25 "$log")" >&2
    done
  fi
  [[ -z $FILES ]] || rm -rf "$FILES"
  exit "$status"
}

# One veth pair to the internet: join NAMESPACE FAR_NAME NET4 NET6
join() {
  ip link add wan netns "$1" type veth peer name "$2" netns "$I"
  # Without link-local addresses, which appear by themselves a second later, states can be compared.
  ip -n "$I" link set "$2" addrgenmode none
  ip -n "$1" link set wan addrgenmode none
  ip -n "$I" address add "$3.1/24" dev "$2"
  ip -n "$I" address add "$4::1/64" dev "$2"
  ip -n "$I" link set "$2" up
  ip -n "$1" address add "$3.2/24" dev wan
  ip -n "$1" address add "$4::2/64" dev wan
  ip -n "$1" link set wan up
  ip -n "$1" route add default via "$3.1"
  ip -n "$1" -6 route add default via "$4::1"
}

carrier() { ip -n "$1" -o link show wan | grep -q 'state UP'; }

make_machines() {
  for namespace in "$C" "$I" "$S"; do
    ip netns add "$namespace"
    ip netns exec "$namespace" sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad; ip link set lo up'
  done
  in_internet sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
  ip -n "$I" address add "$WEB/32" dev lo
  ip -n "$I" address add "$WEB6/128" dev lo
  join "$C" client 100.64.1 2001:db8:1
  join "$S" server 203.0.113 2001:db8:203
  await "the client's link" carrier "$C"
  await "the server's link" carrier "$S"
}

# --- What is looked at ------------------------------------------------------------------------------------------

now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }

whoami_by_web() { in_client curl -s --max-time 2 "http://$1/whoami" || true; }

# Waits until a command succeeds, at most 10 s: await WHAT COMMAND…
await() {
  local what=$1 end=$(($(now_ms) + 10000))
  shift
  until "$@" >/dev/null 2>&1; do
    (($(now_ms) < end)) || fail "waited 10 s in vain for $what"
    sleep 0.02
  done
}

# Addresses, routes, rules and firewall of a namespace, for a comparison: state NAMESPACE
state() {
  ip -n "$1" -o address show | sed 's/ *valid_lft.*//'
  ip -n "$1" rule show && ip -n "$1" -6 rule show
  ip -n "$1" route show table all && ip -n "$1" -6 route show table all
  ip netns exec "$1" nft list ruleset
  ip netns exec "$1" sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding
}

# --- The report -------------------------------------------------------------------------------------------------

bold="" plain=""
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then bold=$'\e[1m' plain=$'\e[0m'; fi

heading() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }
row() { printf '  %-34s %s\n' "$1" "$2"; }

# A row with a verdict: check LABEL VALUE EXPECTED
check() {
  if [[ $2 == "$3" ]]; then
    row "$1" "$2"
  else
    row "$1" "$2   FAILED: expected $3"
    FAILURES=$((FAILURES + 1))
  fi
}

# A row with the answers to 20 pings and their median time: check_ping ADDRESS
check_ping() {
  local received median
  in_client ping -n -c "$PINGS" -i 0.05 -W 2 "$1" >"$FILES/ping.log" 2>&1 || true
  received=$(grep -c 'time=' "$FILES/ping.log" || true)
  median=$(sed -n 's/.*time=\([0-9.]*\) ms/\1/p' "$FILES/ping.log" | sort -n | sed -n "$((PINGS / 2))p")
  check "ping $1" "$received answers, RTT ${median:-?} ms" "$PINGS answers, RTT ${median:-?} ms"
}

# A row with the Mbit/s that the receiver saw: check_speed LABEL IPERF3_ARGUMENTS…
check_speed() {
  local label=$1 rate
  shift
  in_client iperf3 -c "$INNER" -t "$IPERF_SECONDS" -f m "$@" >"$FILES/iperf.log" 2>&1 || true
  rate=$(sed -n 's/.* \([0-9.]*\) Mbits\/sec.*receiver.*/\1/p' "$FILES/iperf.log" | tail -n 1)
  check "$label" "${rate:-no} Mbit/s" "${rate:-some} Mbit/s"
}

show_machines() {
  heading "OMail VPN $(./omail-server --version | cut -d " " -f 2) between three network namespaces"
  cat <<TEXT
  client              internet                    server
  $CLIENT   -----   router               -----  $SERVER
  $CLIENT6       web $WEB    $SERVER6
TEXT
}

bring_up() {
  local begin ready
  heading "Tunnel"
  start "$S" server.log env OMAIL_PASSWORD=demonstration ./omail-server --nat \
    --tun-ip "$INNER/24" --tun-ip6 "$INNER6/64" --state-dir "$FILES/server"
  SERVER_PID=$!
  await "the server" in_server ./omail-server status --json --state-dir "$FILES/server"
  row "server" "omail-server --nat --tun-ip $INNER/24 --tun-ip6 $INNER6/64"

  begin=$(now_ms)
  start "$C" client.log env OMAIL_PASSWORD=demonstration ./omail-client --server "$SERVER" --state-dir "$FILES/client"
  CLIENT_PID=$!
  until [[ $(whoami_by_web "$WEB") == "$SERVER" ]]; do
    (($(now_ms) < begin + 10000)) || fail "waited 10 s in vain for the first byte through the tunnel"
  done
  ready=$(($(now_ms) - begin))
  row "client" "omail-client --server $SERVER (full tunnel)"
  row "client start to first byte" "$ready ms"
}

look_around() {
  heading "The web server sees"
  check "who asks by IPv4" "$(whoami_by_web "$WEB")" "$SERVER"
  check "who asks by IPv6" "$(whoami_by_web "[$WEB6]")" "$SERVER6"

  heading "Through the tunnel"
  in_client curl -sS -o "$FILES/copy" "http://$WEB/file"
  check "$FILE_MEGABYTES MB by curl, SHA-256" "$(sha256sum <"$FILES/copy" | cut -c 1-16)" "$(sha256sum <"$FILES/file" | cut -c 1-16)"
  check_ping "$INNER"
  check_ping "$INNER6"
  check_speed "TCP up"
  check_speed "TCP down" -R
}

take_down() {
  heading "After the end of both"
  finish "$CLIENT_PID" || FAILURES=$((FAILURES + 1))
  finish "$SERVER_PID" || FAILURES=$((FAILURES + 1))
  state "$C" >"$FILES/client.after" && state "$S" >"$FILES/server.after"
  check "client: routes, rules, firewall" "$(restored client)" "as before"
  check "server: routes, rules, firewall" "$(restored server)" "as before"
  check "the web server sees" "$(whoami_by_web "$WEB")" "$CLIENT"
}

# Tells whether a state is as before; the difference goes to the logs: restored client|server
restored() {
  if diff "$FILES/$1.before" "$FILES/$1.after" >"$FILES/$1-state.log"; then echo "as before"; else echo "changed"; fi
}

main() {
  trap remove_all EXIT
  trap 'exit 130' INT TERM
  FILES=$(mktemp -d /tmp/omail-demo-XXXXXX)
  prepare "$@"
  local begin
  begin=$(now_ms)
  make_machines
  dd if=/dev/urandom of="$FILES/file" bs=1M count="$FILE_MEGABYTES" status=none
  start "$I" web.log bun tests/e2e/programs/web_server.ts "$FILES/file"
  start "$S" iperf-server.log iperf3 -s
  await "the web server" in_client curl -sf "http://$WEB/whoami"
  state "$C" >"$FILES/client.before" && state "$S" >"$FILES/server.before"

  show_machines
  heading "Without a tunnel"
  check "the web server sees" "$(whoami_by_web "$WEB")" "$CLIENT"
  bring_up
  look_around
  take_down
  printf '\n%d s, ' $((($(now_ms) - begin + 500) / 1000))
  ((FAILURES == 0)) || { echo "$FAILURES checks FAILED"; exit 1; }
  echo "everything as it should be; the three machines are removed"
}

main "$@"
