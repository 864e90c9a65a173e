# Makes a fresh Debian or Ubuntu ready to build and test OMail VPN. Sourced by test.sh and demo.sh, which run in the
# root of the tree with `set -euo pipefail`: sourcing it does the set-up and puts bun on PATH.

BUN_VERSION=1.4.5

# Debian packages by the command that tells whether they are there.
# openresolv is only a file among others until somebody calls it: its installation leaves /etc/resolv.conf alone.
SETUP_PACKAGES="ip:iproute2 iperf3:iperf3 ping:iputils-ping nft:nftables curl:curl ps:procps tcpdump:tcpdump \
ethtool:ethtool setpriv:util-linux python3:python3 git:git openssl:openssl resolvconf:openresolv"

setup_say() { printf '[setup] %s\n' "$*" >&2; }

# Installs the packages given as arguments, where that is possible.
setup_apt() {
  if ! command -v apt-get >/dev/null; then
    setup_say "missing: $*; this is no Debian or Ubuntu, so please install them by hand"
    return 1
  fi
  if [ "$(id -u)" -ne 0 ]; then
    setup_say "missing: $*; please run: sudo apt-get install $*"
    return 1
  fi
  setup_say "installing $*"
  if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null 2>&1; then
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >&2
  fi
}

setup_packages() {
  local entry missing=()
  for entry in $SETUP_PACKAGES; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
  done
  if [ "${#missing[@]}" -gt 0 ]; then setup_apt "${missing[@]}"; fi
  export PATH="$PATH:/usr/sbin:/sbin"
}

# Bun from npm, in a prefix of the tree, unless the right one is there.
setup_bun() {
  local prefix="$PWD/node_modules/.cache/bun-$BUN_VERSION"
  export PATH="$prefix/bin:$PATH"
  if [ "$(bun --version 2>/dev/null || true)" = "$BUN_VERSION" ]; then return; fi
  command -v npm >/dev/null || setup_apt npm
  setup_say "installing bun $BUN_VERSION from npm"
  npm install --silent --no-fund --no-audit --global --prefix "$prefix" "bun@$BUN_VERSION" >&2
  hash -r
}

setup_modules() {
  bun install --frozen-lockfile --silent >&2
}

# Says what the end-to-end tests and the demo cannot do without; its status tells whether it is all there.
setup_check_machine() {
  local status=0
  if [ "$(id -u)" -ne 0 ]; then
    setup_say "not root: network namespaces and TUN devices need it; please run this with sudo"
    status=1
  fi
  if [ ! -e /dev/net/tun ] && ! { [ "$(id -u)" -eq 0 ] && modprobe tun 2>/dev/null && [ -e /dev/net/tun ]; }; then
    setup_say "/dev/net/tun is missing: please run \"modprobe tun\", or give the container --device /dev/net/tun"
    status=1
  fi
  return "$status"
}

setup_packages
setup_bun
setup_modules
