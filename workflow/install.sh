#!/usr/bin/env bash
# Makes or renews the virtual environment that the Makefile works in: workflow/install.sh FOLDER STAMP
#
# PYTHON          the interpreter to build it with; default: the first of python3, python3.13 ... that is 3.11 or newer
# TORCH           the pip requirement for torch, where the choice below is wrong: TORCH='torch==2.13.0+cu126' make ...
# PIP_*           pip's own variables. Where PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS offers a CPU build of torch, a machine
#                 without NVIDIA GPU takes that; otherwise it gets the common build, which is larger and works as well.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 stamp=$2
unfinished=$venv/.unfinished

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; }

find_python() {
    local candidate seen=""
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
        seen="$seen $candidate ($("$candidate" -V 2> /dev/null || echo "not found"))"
    done
    echo "Python 3.11 or newer is needed; tried:$seen. Set PYTHON=/path/to/python3" >&2
    exit 1
}

# What the environment depends on. A file that only has a new date (git checkout) changes nothing.
wanted=$(cat requirements.txt requirements.lock pyproject.toml workflow/install.sh | cksum)
if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && [ ! -e "$unfinished" ]; then
    touch "$stamp"
    exit 0
fi

# Start anew after an interrupted installation (pip trusts what is half there), in a folder that was moved (its scripts
# name the old place), and if the interpreter is gone.
clear=
if [ -e "$unfinished" ] || ! is_new_enough "$venv/bin/python" || ! "$venv/bin/python" -m pip --version > /dev/null 2>&1; then
    clear=--clear
else
    for other in "$venv"/.complete-*; do
        if [ -e "$other" ] && [ "$other" != "$stamp" ]; then clear=--clear; fi
    done
fi
if [ -n "$clear" ]; then
    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2> /dev/null || {
        echo "$python has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2
        exit 1
    }
    echo "Making $venv with $("$python" -V)"
    "$python" -m venv --clear "$venv"
fi

rm -f "$venv"/.complete-*
touch "$unfinished"
pip=("$venv/bin/python" -m pip -qq --disable-pip-version-check --no-input)
echo "Installing about $(grep -c '^[^#]' requirements.lock) pinned packages; the first time takes some minutes"
"${pip[@]}" install -r requirements.lock

torch=${TORCH:-$(grep '^torch==' requirements.txt)}
have=$("$venv/bin/python" -c 'import importlib.metadata as m; print("torch==" + m.version("torch"))' 2> /dev/null || true)
if [ "$have" != "$torch" ] && [ "${have%+*}" != "$torch" ]; then
    gpu=
    if [ -e /proc/driver/nvidia/version ] || nvidia-smi -L > /dev/null 2>&1; then gpu=yes; fi
    echo "Installing $torch"
    if [ -n "${TORCH:-}${gpu}" ] || ! "${pip[@]}" install --no-deps "$torch+cpu" > /dev/null 2>&1; then
        "${pip[@]}" install -c requirements.lock "$torch"
    fi
fi

"${pip[@]}" install --no-deps --no-build-isolation --editable .
rm "$unfinished"
echo "$wanted" > "$stamp"
