#!/usr/bin/env bash
# Set Lacuna up: the system libraries that its wheels need (Debian, Ubuntu), .venv, and every package at its pinned version.
# Run it again whenever you like; what is there already is left alone.
set -euo pipefail
cd "$(dirname "$0")"

lacks() { ! ldconfig -p 2>/dev/null | grep -q "$1"; }
packages=()
if lacks libGL.so.1; then packages+=(libgl1); fi
if lacks libEGL.so.1; then packages+=(libegl1); fi
if lacks libGLESv2.so.2; then packages+=(libgles2); fi
if lacks libglib-2.0.so.0; then packages+=(libglib2.0-0); fi
if [ "${#packages[@]}" -gt 0 ] && [ "$(uname)" = Linux ]; then
  if ! command -v apt-get >/dev/null; then
    echo "setup.sh: these libraries are missing; install your system's packages for: ${packages[*]}" >&2
    exit 1
  fi
  root=(); if [ "$(id -u)" != 0 ]; then root=(sudo); fi
  "${root[@]}" apt-get update -q
  "${root[@]}" apt-get install -q -y --no-install-recommends "${packages[@]}"
fi

python=""
for name in python3.11 python3.12 python3 python; do
  if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
    python=$name
    break
  fi
done
if [ -z "$python" ]; then
  echo "setup.sh: found no Python 3.11 or 3.12 on the PATH; install one and run this again" >&2
  exit 1
fi
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock -e .
echo "Lacuna is set up. Next: . .venv/bin/activate"
