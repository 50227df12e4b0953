#!/usr/bin/env bash
# Every combination of some flags' values, several seeds each, and their table. Started again, it goes on.
#   bash scripts/sweep.sh FILE.yaml                          flags, values and seeds: --help shows one
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements.txt "$@"

exec "$PYTHON" "$ROOT/experiments/sweep.py" "$@"
