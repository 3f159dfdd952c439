# shellcheck shell=bash
# Sourced by the scripts beside it: finds Python, makes .venv, installs into it.
# PYTHON names another interpreter than python3; it must be 3.11 or newer.

python_for_venv() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "needs Python 3.11 or newer with the venv module; set PYTHON to its path" >&2
    return 1
}

# install_into_venv REQUIREMENT: an editable install, skipped when nothing it depends on changed.
install_into_venv() {
    local python stamp
    if [ ! -x .venv/bin/python ]; then
        python=$(python_for_venv)
        "$python" -m venv .venv
    fi
    stamp=".venv/installed-$(cat setup.py pyproject.toml xai_traffic/capture/native/* | cksum | tr ' ' '-')-${1//[^a-z]/_}"
    if [ ! -e "$stamp" ]; then
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable "$1"
        touch "$stamp"
    fi
}
