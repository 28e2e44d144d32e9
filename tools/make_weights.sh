#!/usr/bin/env bash
# Makes the released weights anew: tools/make_weights.sh PHOTOGRAPHS OUT [FOLDER IN HPATCHES' LAYOUT ...]
# MD-Net with 2 sets first, then the heads of 1, 4 and 8 sets on the same network. Run it again after an interruption.
set -euo pipefail
photographs=$1 out=$2
shift 2
judged=()
for folder in "$@"; do judged+=(--dev "$folder"); done

tiepoints train --images "$photographs" --out "$out/2" --sets 2 --hours "${HOURS:-0.8}" --resume "${judged[@]}"
for k in 1 4 8; do
    tiepoints train --images "$photographs" --out "$out/$k" --sets "$k" --heads-only --from "$out/2/best.onnx" \
        --steps "${HEAD_STEPS:-1000}" --resume "${judged[@]}"
done
for k in 1 2 4 8; do
    tiepoints export "$out/$k/best.onnx" --out "src/tiepoints/weights/mdnet-$k.onnx" \
        --about name=mdnet-$k --about licence=Apache-2.0
    tiepoints export "$out/$k/best.onnx" --out "src/tiepoints/weights/mdnet-$k-int8.onnx" --int8 "$photographs" \
        --about name=mdnet-$k-int8 --about licence=Apache-2.0
done
