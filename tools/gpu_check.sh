#!/usr/bin/env bash
# Check a CUDA machine, in about 8 minutes and at most 13: the tests that need a GPU, the benchmark's rows there, and short trainings.
#
#   tools/gpu_check.sh                                # this machine's python3
#   PYTHON=.venv/bin/python OUT=check tools/gpu_check.sh
#
# Needs `pip install -e .[test]` and a GPU; no network, no data: it draws its own. OUT (work_dirs/gpu_check)
# receives gpu_check.log, benchmark.json, metrics.json and overlay.png. A part that fails does not stop the others; the
# exit code is the number of those that failed. PARTS="tests benchmark" runs only these.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-work_dirs/gpu_check}
PARTS=${PARTS:-machine shapes tests benchmark ddp bf16 resume test_tool demo}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
LOG=$OUT/gpu_check.log
: >"$LOG"
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 OPENVOCAB_TRACEBACK=1

CONFIG=configs/lseg_shapes.py
SHAPES=$SCRATCH/shapes
RUN=$SCRATCH/bf16
OPTIONS=(--cfg-options {train,val,test}_dataloader.dataset.root="$SHAPES" model.{backbone,text_encoder}.pretrained=None
    train_cfg.max_iters=40 train_cfg.val_interval=20 param_scheduler.0.end=5 param_scheduler.1.begin=5
    param_scheduler.1.end=40 default_hooks.checkpoint.interval=20 default_hooks.logger.interval=10)

machine() {
    nvidia-smi || true
    "$PYTHON" -c '
import torch
print("torch", torch.__version__, "CUDA", torch.version.cuda, "cuDNN", torch.backends.cudnn.version())
assert torch.cuda.is_available(), "torch finds no CUDA device"
for index in range(torch.cuda.device_count()):
    print(index, torch.cuda.get_device_properties(index))
'
}

shapes() { "$PYTHON" tools/make_shapes.py --root "$SHAPES" --num-train 256 --num-val 32 --objects-per-class 2; }

tests() { "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider tests; }

benchmark() { "$PYTHON" tools/benchmark.py --device cuda --out "$OUT/benchmark.json"; }

ddp() { # one process for each GPU, gradients over NCCL
    local gpus
    gpus=$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')
    "$PYTHON" -m torch.distributed.run --standalone --nproc_per_node "$gpus" tools/train.py "$CONFIG" \
        --launcher pytorch --work-dir "$SCRATCH/ddp" "${OPTIONS[@]}" env_cfg.dist_cfg.timeout=60
}

bf16() { "$PYTHON" tools/train.py "$CONFIG" --amp --work-dir "$RUN" "${OPTIONS[@]}"; }

resume() { # the second half again, from the checkpoint between
    mkdir "$SCRATCH/resumed"
    cp "$RUN/iter_20.pth" "$SCRATCH/resumed/"
    "$PYTHON" tools/train.py "$CONFIG" --amp --resume --work-dir "$SCRATCH/resumed" "${OPTIONS[@]}" || return
    "$PYTHON" - "$RUN/last.pth" "$SCRATCH/resumed/last.pth" <<'CODE'
import sys
from openvocab.checkpoint.checkpoint import load_checkpoint
whole, resumed = (load_checkpoint(path) for path in sys.argv[1:])
assert whole["meta"]["iter"] == resumed["meta"]["iter"] == 40
pairs = [(value.double(), resumed["state_dict"][name].double()) for name, value in whole["state_dict"].items()]
apart = max(float((a - b).norm() / a.norm().clamp(min=1e-3)) for a, b in pairs)
print(f"resumed: largest relative difference of a weight to the uninterrupted run {apart:.1e}", "(equal bits)" * (apart == 0))
assert apart < 0.05, "further apart than kernels whose order of additions is not fixed explain"
CODE
}

test_tool() {
    "$PYTHON" tools/test.py "$CONFIG" "$RUN/last.pth" --work-dir "$SCRATCH/test" --out "$OUT/metrics.json" \
        --show-dir "$SCRATCH/pictures" --show-count 2 "${OPTIONS[@]}"
}

demo() {
    "$PYTHON" tools/demo.py "$SHAPES/images/val/000001.jpg" --classes "red circle, blue star, anything else" \
        --config "$CONFIG" --checkpoint "$RUN/last.pth" --out "$OUT/overlay.png"
}

limit_of() { # seconds of each part
    case $1 in
        tests) echo 150 ;; benchmark) echo 180 ;; *) echo 60 ;;
    esac
}

failed=0
summary=()
started=$SECONDS
export PYTHON OUT SCRATCH CONFIG SHAPES RUN
for part in $PARTS; do
    printf '\n== %s\n' "$part" | tee -a "$LOG"
    begin=$SECONDS
    # a shell of its own, so that `timeout` can end all that the part has started
    timeout --kill-after=10 "$(limit_of "$part")" bash -c "$(declare -p OPTIONS); $(declare -f "$part"); set -o pipefail; $part" \
        >"$SCRATCH/$part.log" 2>&1 </dev/null
    code=$?
    cat "$SCRATCH/$part.log" >>"$LOG"
    case $code in
        0) verdict=PASS ;; 124 | 137) verdict="FAIL (over $(limit_of "$part") s)" ;; *) verdict="FAIL (exit $code)" ;;
    esac
    [ "$verdict" = PASS ] || failed=$((failed + 1))
    tail -n "$([ "$part" = benchmark ] || [ "$verdict" != PASS ] && echo 60 || echo 6)" "$SCRATCH/$part.log"
    summary+=("$(printf '%-10s %-22s %4d s' "$part" "$verdict" $((SECONDS - begin)))")
done

{
    printf '\n== summary: %d of %d parts failed, %d s\n' "$failed" "${#summary[@]}" $((SECONDS - started))
    printf '%s\n' "${summary[@]}"
} | tee -a "$LOG"
exit "$failed"
