#!/usr/bin/env bash
# Extract I3D features from videos, as a set to train on or to find actions in. Started again, it goes on.
#   bash scripts/extract.sh VIDEO_OR_FOLDER... --out DATA
#   bash scripts/extract.sh VIDEO_OR_FOLDER... --out DATA --labels labels.csv     columns video,label: a set to train on
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements-video.txt "$@"

exec "$PYTHON" "$ROOT/video/extract.py" "$@"
