#!/usr/bin/env bash
# Train and evaluate. Any flag of options.py can be appended.
#   bash scripts/train.sh                                   the built-in demo set, synthetic
#   bash scripts/train.sh --data_path /path/to/THUMOS14     the published recipe; or set DATA_PATH
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements.txt "$@"

# The data come from the flags, else from DATA_PATH, else they are the demo set. --resume knows its data.
named=no dataset=no
for flag in "$@"; do
    case $flag in
        --data_path | --data_path=* | --resume | -h | --help) named=yes ;;
        --dataset | --dataset=*) dataset=yes ;;
    esac
done
data=()
if [ $named = no ] && [ -n "${DATA_PATH:-}" ]; then
    data=(--data_path "$DATA_PATH")
elif [ $named = no ] && [ $dataset = no ]; then
    echo "no --data_path: training on the built-in demo set (data/demo), which is synthetic"
    data=(--dataset demo)
fi
exec "$PYTHON" "$ROOT/main.py" "${data[@]}" "$@"
