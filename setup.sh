#!/usr/bin/env bash
# Set Lacuna up: the system libraries that its wheels need (Debian, Ubuntu), .venv, and every package at its pinned version.
# Run it again whenever you like; what is there already is left alone.
set -euo pipefail
cd "$(dirname "$0")"

case "$(uname -s)-$(uname -m)" in
  Linux-*) ;;
  Darwin-arm64)
    echo "setup.sh: Lacuna is not tested on macOS; if pip finds no wheel of a package, it names it" >&2 ;;
  Darwin-*)
    echo "setup.sh: PyTorch has no packages for Macs with Intel processors; use Linux, or a Mac with Apple silicon" >&2
    exit 1 ;;
  *)
    echo "setup.sh: Lacuna runs on Linux; on Windows use WSL" >&2
    exit 1 ;;
esac

lacks() { ! ldconfig -p 2>/dev/null | grep -q "$1"; }
packages=()
if lacks libGL.so.1; then packages+=(libgl1); fi
if lacks libEGL.so.1; then packages+=(libegl1); fi
if lacks libGLESv2.so.2; then packages+=(libgles2); fi
if lacks libglib-2.0.so.0; then packages+=(libglib2.0-0); fi
if [ "${#packages[@]}" -gt 0 ] && [ "$(uname -s)" = Linux ]; then
  if ! command -v apt-get >/dev/null; then
    echo "setup.sh: these libraries are missing; install your system's packages for: ${packages[*]}" >&2
    exit 1
  fi
  root=(); if [ "$(id -u)" != 0 ]; then root=(sudo); fi
  "${root[@]}" apt-get update -q
  "${root[@]}" apt-get install -q -y --no-install-recommends "${packages[@]}"
fi

fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))'
python=""
for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
  if "$name" -c "$fits" 2>/dev/null; then
    python=$name
    break
  fi
done
if [ -z "$python" ]; then
  echo "setup.sh: found no Python 3.11 to 3.14 on the PATH; install one, or name it: PYTHON=/its/place bash setup.sh" >&2
  exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  echo "setup.sh: $python cannot make environments; Debian and Ubuntu: apt-get install python3-venv" >&2
  exit 1
fi
# The scripts of an environment name its place, and its packages are of one Python: a moved or copied one is made anew.
if [ -e .venv ]; then
  if ! grep -qF -- "-m venv $PWD/.venv" .venv/pyvenv.cfg 2>/dev/null || ! .venv/bin/python -c "$fits" 2>/dev/null; then
    echo "setup.sh: .venv was made in another place or by another Python; making it anew"
    rm -rf .venv
  fi
fi
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock -e .
echo "Lacuna is set up. Next: . .venv/bin/activate"
