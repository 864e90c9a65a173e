#!/usr/bin/env bash
# Sets up all that is needed on a fresh Debian or Ubuntu and runs the whole gate. The last line is "N passed, N failed".
set -euo pipefail
cd "$(dirname "$0")/.."
# Does all of the set-up.
source scripts/setup.sh
# The gate runs all the same: it tells which of its steps could not run.
setup_check_machine || true
exec bun scripts/gate.ts
