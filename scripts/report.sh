#!/usr/bin/env bash
# Write the report of the last run again, or of the named ones; of two or more a comparison. Runs are folders, or names in output/.
#   bash scripts/report.sh
#   bash scripts/report.sh output/first output/second --out comparison.html
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements.txt "$@"

exec "$PYTHON" "$ROOT/main.py" --report "$@"
