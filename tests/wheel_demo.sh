#!/usr/bin/env bash
# Installs a wheel into a fresh environment and runs its demo, both outside of the checkout.
# Usage: tests/wheel_demo.sh WHEEL
set -euo pipefail

wheel=$(realpath "$1")
uv=$(realpath "$(dirname "$0")/../.venv/bin")/uv
python=$(realpath "$(dirname "$0")/../.venv/bin/python")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"

"$uv" venv --quiet --python "$python" environment
"$uv" pip install --quiet --python environment/bin/python "$wheel"

export SOLLOL_HOME="$place/state" HOME="$place/home"
mkdir "$HOME" run
cd run
env -u PYTHONPATH ../environment/bin/sollol demo </dev/null | tee ../output

adapter=$(sed -n 's/^adapter  *//p' ../output | tail -n 1)
if [[ -z $adapter ]]; then
  echo "the demo printed no line 'adapter  PATH'" >&2
  exit 1
fi
file=$adapter
[[ -d $file ]] && file=$file/adapter_model.safetensors
if [[ ! -s $file ]]; then
  echo "the demo named $adapter, but there is no adapter" >&2
  exit 1
fi
