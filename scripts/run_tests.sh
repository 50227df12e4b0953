#!/usr/bin/env bash
# Set up, then run the tests; arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements-dev.txt "$@"
cd "$ROOT"
exec "$PYTHON" -m pytest "$@"
