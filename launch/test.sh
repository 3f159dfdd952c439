#!/usr/bin/env bash
# Makes .venv, installs xai_traffic with its test extra, checks the style and runs the tests.
# Usage: bash launch/test.sh [PYTEST ARGUMENTS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/venv.sh
install_into_venv ".[test]"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/python -m pytest -n 2 --dist loadscope "$@"
