# Sourced by the other scripts: makes .venv with the pinned packages, once; sets $ROOT to the project's folder and $PYTHON to the
# Python to use; the working folder stays the same.
#   source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements.txt
# Set SAL_PYTHON to use another Python 3.11 or newer than the python3 on the PATH.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=$ROOT/.venv/bin/python

setup_venv() {
    local requirements=$ROOT/$1 base=${SAL_PYTHON:-python3}
    local stamp=$ROOT/.venv/installed-$1
    # The stamp is written last: an interrupted set-up, or one for other pins, is done again.
    if [ -x "$PYTHON" ] && [ -f "$stamp" ] && cat "$ROOT"/requirements*.txt | cmp -s - "$stamp"; then
        return 0
    fi
    if ! "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "setup: '$base' is not Python 3.11 or newer; install one, or name it in SAL_PYTHON" >&2
        return 2
    fi
    echo "setup: installing $1 into .venv (once; takes a few minutes)"
    if ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
        rm -rf "$ROOT/.venv"
        if ! "$base" -m venv "$ROOT/.venv"; then
            rm -rf "$ROOT/.venv"
            echo "setup: '$base -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2
            return 2
        fi
    fi
    if ! "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$requirements"; then
        echo "setup: pip could not install $1; its message is above" >&2
        return 2
    fi
    cat "$ROOT"/requirements*.txt > "$stamp"
}

setup_venv "$1"
