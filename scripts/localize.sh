#!/usr/bin/env bash
# Find the actions in videos: features are extracted, and kept; then a trained model finds what happens when.
#   bash scripts/localize.sh VIDEO_OR_FOLDER... --model_file output/EXPERIMENT/best.pt
#   bash scripts/localize.sh VIDEO_OR_FOLDER...           no model: the 400 classes that I3D itself knows
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements-video.txt "$@"

exec "$PYTHON" "$ROOT/video/localize.py" "$@"
