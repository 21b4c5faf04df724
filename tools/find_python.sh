#!/usr/bin/env bash
# Print the first Python on this machine that is new enough and can make environments; say what to do if there is none.
set -euo pipefail

wanted='import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))'
for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
  if command -v "$candidate" >/dev/null && "$candidate" -c "$wanted" 2>/dev/null; then
    command -v "$candidate"
    exit 0
  fi
done

cat >&2 <<'SAY'
anonsynth needs Python 3.11 or newer with its venv module, and none was found.
  Debian, Ubuntu:  sudo apt-get install python3 python3-venv
  macOS:           brew install python@3.11
  elsewhere:       https://www.python.org/downloads/
If it lies in an unusual place: make PYTHON=/path/to/python3.11 demo
SAY
exit 1
