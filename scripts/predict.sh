#!/usr/bin/env bash
# Find the actions in videos without labels: features in files, folders, HDF5 files or data sets.
#   bash scripts/predict.sh --model_file output/EXPERIMENT/best.pt video.npy
#   bash scripts/predict.sh FEATURES...                   the best checkpoint of the last experiment
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements.txt "$@"

exec "$PYTHON" "$ROOT/main.py" --predict "$@"
