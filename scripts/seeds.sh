#!/usr/bin/env bash
# The same training with several seeds, and the table of mean and deviation. Started again, it goes on.
#   bash scripts/seeds.sh --seeds 0 1 2 --data_path /path/to/THUMOS14     or set DATA_PATH
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements.txt "$@"

# Flags come last, and the last --data_path counts.
exec "$PYTHON" "$ROOT/experiments/seeds.py" ${DATA_PATH:+--data_path "$DATA_PATH"} "$@"
