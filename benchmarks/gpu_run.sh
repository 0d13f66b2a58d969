#!/bin/sh
# Runs gpu_check.py on a GPU machine without network: wheels of what is missing there lie in .gpu_wheels.
#   sh benchmarks/gpu_run.sh [arguments of gpu_check.py]      writes $OUT/gpu_check.json and $OUT/log.txt
set -e
cd "$(dirname "$0")/.."
OUT=${OUT:-runs}
SITE=${SITE:-/tmp/goodrate_site}
mkdir -p "$OUT" "$SITE"
if ls .gpu_wheels/*.whl >/dev/null 2>&1; then
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$SITE" .gpu_wheels/*.whl
fi
export PYTHONPATH="$PWD/src:$SITE" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
python3 -c 'import torch, transformers; print(torch.__version__, transformers.__version__, torch.cuda.is_available())'
{ python3 benchmarks/gpu_check.py --out "$OUT/gpu_check.json" "$@" || echo "gpu_check.py ended with $?"; } 2>&1 | tee "$OUT/log.txt"
