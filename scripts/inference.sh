#!/usr/bin/env bash
# Load the best checkpoint of the last experiment, or the named one; write its detections and print the table.
#   bash scripts/inference.sh
#   bash scripts/inference.sh --data_path /path/to/THUMOS14 --model_file /path/to/checkpoint
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements.txt "$@"

# Flags come last, and the last --data_path counts.
exec "$PYTHON" "$ROOT/main.py" --inference_only ${DATA_PATH:+--data_path "$DATA_PATH"} "$@"
