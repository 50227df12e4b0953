#!/usr/bin/env bash
# What each part of the method is worth: runs from a baseline upward, several seeds each, and their table. Started again, it goes on.
#   bash scripts/ablation.sh --seeds 0 1 2 --data_path /path/to/THUMOS14     or set DATA_PATH
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements.txt "$@"

# Flags come last, and the last --data_path counts.
exec "$PYTHON" "$ROOT/experiments/ablation.py" ${DATA_PATH:+--data_path "$DATA_PATH"} "$@"
