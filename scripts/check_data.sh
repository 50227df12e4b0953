#!/usr/bin/env bash
# Check a data set and report what is wrong with it; nothing is trained. Exit code: 0 fine, 1 warnings, 2 errors.
#   bash scripts/check_data.sh --data_path /path/to/THUMOS14     or set DATA_PATH
#   bash scripts/check_data.sh --data_path /path/to/THUMOS14 --list     every video of every finding, not three
#   bash scripts/check_data.sh --dataset demo                    the built-in demo set
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements.txt "$@"

# Flags come last, and the last --data_path counts.
exec "$PYTHON" "$ROOT/main.py" --check_data ${DATA_PATH:+--data_path "$DATA_PATH"} "$@"
