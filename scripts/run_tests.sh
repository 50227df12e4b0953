#!/usr/bin/env bash
# Set up, then run the tests; arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements-dev.txt "$@"
cd "$ROOT"
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} # threads that wait sleep, as those of main.py
exec "$PYTHON" -m pytest "$@"
