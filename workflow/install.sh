#!/usr/bin/env bash
# Makes or renews the virtual environment that the Makefile works in: workflow/install.sh FOLDER STAMP
# Without arguments: installs the same into the activated environment, for example one of conda.
#
# PYTHON          the interpreter to build it with; default: the first of python3, python3.13 ... that is 3.11 or newer
# TORCH           the pip requirement for torch, where the choice below is wrong: TORCH='torch==2.13.0+cu126' make ...
# PIP_*           pip's own variables; uv, which installs in its place, looks where they and pip's files say. Where
#                 PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS offers a CPU build of torch, a machine without NVIDIA GPU takes
#                 that; otherwise it gets the common build, 4 GB larger, which works as well.
set -euo pipefail
cd "$(dirname "$0")/.."

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

# torch comes first and alone: as a dependency of others, the build with CUDA would come everywhere. The rest is complete
# and installed as it is listed, nothing resolved, every file compared with its hash.
install_into() {
    local python=$1 torch have gpu=
    local pip=("$python" -m pip -qq --disable-pip-version-check --no-input) installer check
    if "${pip[@]}" install --no-deps --require-hashes -r workflow/uv.txt 2> /dev/null; then
        settings_of_pip "$python"
        installer=("$python" -m uv -q pip install --python "$python" --index-strategy unsafe-best-match)
        check=("$python" -m uv pip check --python "$python")
    else
        echo "uv, the quick installer, is not to be had here; pip takes some minutes"
        installer=("${pip[@]}" install)
        check=("$python" -m pip --disable-pip-version-check check)
    fi
    torch=${TORCH:-$(grep '^torch==' requirements.txt)}
    have=$("$python" -c 'import importlib.metadata as m; print("torch==" + m.version("torch"))' 2> /dev/null || true)
    if [ "$have" != "$torch" ] && [ "${have%+*}" != "$torch" ]; then
        if [ -e /proc/driver/nvidia/version ] || nvidia-smi -L > /dev/null 2>&1; then gpu=yes; fi
        echo "Installing $torch"
        if [ -n "${TORCH:-}${gpu}" ]; then
            "${installer[@]}" -c <(pins) "$torch"
        elif ! "${installer[@]}" --no-deps "$torch+cpu" > /dev/null 2>&1; then
            echo "There is no CPU build of $torch here (PIP_EXTRA_INDEX_URL names another place); taking the common one"
            "${installer[@]}" -c <(pins) "$torch"
        fi
    fi
    echo "Installing about $(pins | wc -l) pinned packages"
    "${installer[@]}" --no-deps --require-hashes -r requirements.lock
    "${installer[@]}" --no-deps --no-build-isolation --editable .
    "${check[@]}" > /dev/null 2>&1 || "${check[@]}"
    # uv compiles nothing. What each job imports is compiled here, all else when it is first imported.
    env -u PYTHONDONTWRITEBYTECODE "$python" -c "import torch, rarl.cli"
}

# uv reads no settings of pip: where it looks for packages and whom it trusts.
settings_of_pip() {
    local key value
    while IFS='=' read -r key value; do
        value=${value#[\'\"]} value=${value%[\'\"]} value=${value//\\n/ }
        case ${key#*.} in
            index-url) export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX-$value} ;;
            extra-index-url) export UV_INDEX=${UV_INDEX-$value} ;;
            find-links) export UV_FIND_LINKS=${UV_FIND_LINKS-${value// /,}} ;;
            cert) export SSL_CERT_FILE=${SSL_CERT_FILE-$value} ;;
        esac
    done < <("$1" -m pip config list 2> /dev/null)
}

# The lock without its hashes, in which torch cannot be.
pins() { sed -nE 's/^([[:alnum:]][^\\]*).*/\1/p' requirements.lock; }

if [ $# -eq 0 ]; then
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] || ! is_new_enough python; then
        echo "Activate an environment with Python 3.11 or newer first, or run make install" >&2
        exit 1
    fi
    install_into python
    exit 0
fi
venv=$1 stamp=$2
unfinished=$venv/.unfinished

# What the environment depends on. A file that only has a new date (git checkout) changes nothing.
wanted=$(cat requirements.txt requirements.lock pyproject.toml workflow/install.sh workflow/uv.txt | cksum)
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
install_into "$venv/bin/python"
rm "$unfinished"
echo "$wanted" > "$stamp"
