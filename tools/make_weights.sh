#!/usr/bin/env bash
# Makes the released weights anew: tools/make_weights.sh PHOTOGRAPHS OUT [FOLDER TO JUDGE THEM ON ...]
# Each size with the heads of 2, 4 and 8 sets at once. Run it again after an interruption.
set -euo pipefail
photographs=$1 out=$2
shift 2
judged=()
for folder in "$@"; do judged+=(--dev "$folder"); done

for size in mdnet mdnet-small mdnet-large; do
    tiepoints train --images "$photographs" --out "$out/$size" --network "$size" --teacher aliked-n16 \
        --sets 2 --sets 4 --sets 8 --hours "${HOURS:-8}" --resume "${judged[@]}"
    weights="src/tiepoints/weights/$size"
    # The small network learns from the middle one, which was made before it; the others from themselves.
    teacher=$out/$size/best.onnx upright=$out/$size/mean.onnx space=()
    [ "$size" = mdnet-small ] && teacher=$out/mdnet/mean.onnx upright=$out/mdnet/mean.onnx
    # Descriptors of all sizes match each other.
    [ "$size" = mdnet ] || space=(--space "$out/mdnet/rotated.onnx")
    python tools/distil.py "$photographs" "$out/$size/best.onnx" "$out/$size/mean.onnx" --teacher "$teacher" --minutes 40
    python tools/distil.py "$photographs" "$out/$size/mean.onnx" "$out/$size/rotated.onnx" --rotations \
        --teacher "$upright" "${space[@]}" --crop 256 --batch 16 --learning-rate 1.2e-3 --minutes 60
    tiepoints export "$out/$size/rotated.onnx" --out "$weights.onnx" --float16 --about "name=$size" --about licence=Apache-2.0
    # in 8 bits the small one is hardly faster, and loses more
    [ "$size" = mdnet-small ] || tiepoints export "$weights.onnx" --out "$weights-int8.onnx" --int8 "$photographs"
done
