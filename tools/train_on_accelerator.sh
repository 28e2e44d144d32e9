#!/usr/bin/env bash
# Train on a machine that is lent for minutes and reaches no network: one command packs photographs, code, weights and the
# teacher's weights into at most 60 MB, sends them, lets the teacher look at the photographs there, trains from the given weights
# with a schedule that ends in time, and brings checkpoint and model back.
#
#   tools/train_on_accelerator.sh PHOTOS FROM.onnx OUT MINUTES [options of `tiepoints train`, such as --batch 48]
#
# PHOTOS may be several folders with a colon in between. OUT may hold the checkpoint of an earlier call: then it goes along, and
# `--resume` among the options goes on from it. Environment:
#   VIA        how a command line is run there, with the pack on its standard input; default "bash -c", this machine.
#              VIA="ssh gpu" sends it to another.
#   TEACHER    an extractor, default aliked-n16; its weights are looked for in TIEPOINTS_WEIGHTS. Empty: no teacher.
#   PACK_MB    how large the pack may be, default 60: photographs are left out until it fits
#   EDGE       the photographs' long edge, default 640
#   WHEELS     folder of wheels that the machine lacks
#   SPLIT      such as 15m: files that come back are cut into parts of this size (join them by `cat`)
#   PACK_ONLY  set: stop when OUT/pack is there. Its own `bash run.sh MINUTES OUT` does the rest, wherever it was copied to.
set -euo pipefail
[ $# -ge 4 ] || { sed -n '2,/^set/p' "$0" | sed '$d;s/^# \{0,1\}//'; exit 2; }
photos=$1 start=$2 out=$3 minutes=$4
shift 4
root=$(cd "$(dirname "$0")/.." && pwd)
teacher=${TEACHER-aliked-n16} via=${VIA:-bash -c}
mkdir -p "$out"
pack=$(mktemp -d "$out/pack.XXXXXX")
trap 'rm -rf "$pack"' EXIT

mkdir "$pack/src" "$pack/photos" "$pack/weights" "$pack/wheels"
tar -C "$root/src" --exclude=__pycache__ --exclude='*.onnx' -cf - tiepoints | tar -C "$pack/src" -xf -
cp "$start" "$pack/from.onnx"
[ -z "$teacher" ] || cp "${TIEPOINTS_WEIGHTS:?the folder that holds the weights of $teacher}/$teacher".* "$pack/weights/"
[ -z "${WHEELS:-}" ] || cp "$WHEELS"/*.whl "$pack/wheels/"
[ ! -e "$out/checkpoint.pt" ] || cp "$out/checkpoint.pt" "$pack/checkpoint.pt"

# The photographs in the pack are those with the lowest hashes of their names: another call takes the same ones.
python3 - "$photos" "$pack" "${PACK_MB:-60}" "${EDGE:-640}" <<'PYTHON'
import hashlib, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2

from tiepoints.errors import ImageError
from tiepoints.images import find_images, read, resize_to

folders, pack, megabytes, edge = sys.argv[1].split(":"), Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
left = megabytes * 1e6 - sum(p.stat().st_size for p in pack.rglob("*") if p.is_file()) - 2e6  # of tar's own
paths = sorted(find_images(folders), key=lambda p: hashlib.sha256(p.name.encode()).hexdigest())


def encoded(path):
    try:
        image, _ = resize_to(read(path), edge)
    except ImageError as error:
        print(error, file=sys.stderr)
        return path, b""
    return path, cv2.imencode(".webp", image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 70])[1].tobytes()


taken = 0
with ThreadPoolExecutor() as threads:
    for begin in range(0, len(paths), 64):
        for number, (path, code) in enumerate(threads.map(encoded, paths[begin : begin + 64]), begin):
            if code and left > len(code):
                (pack / "photos" / f"{number:05}-{path.stem}.webp").write_bytes(code)
                left -= len(code)
                taken += 1
        if left < 50_000:
            break
print(f"{taken} of {len(paths)} photographs in the pack", file=sys.stderr)
PYTHON

cat > "$pack/run.sh" <<'RUN'
#!/usr/bin/env bash
# run.sh MINUTES OUT [options of `tiepoints train`]: everything from the pack, in so many minutes at most
set -euo pipefail
cd "$(dirname "$0")"
end=$(($(date +%s) + $(printf '%.0f' "$(echo "$1 * 60" | bc -l 2>/dev/null || python3 -c "print($1 * 60)")"))) out=$2
shift 2
mkdir -p "$out" site
python3 -m pip install --quiet --no-index --no-deps --target site wheels/*.whl 2>/dev/null || true
export PYTHONPATH="$PWD/src:$PWD/site" TIEPOINTS_WEIGHTS="$PWD/weights"
train() { python3 -m tiepoints train --images photos --out "$out" --cache cache --from from.onnx "$@"; }
teacher=()
[ -z "@TEACHER@" ] || teacher=(--teacher "@TEACHER@")
[ ! -e checkpoint.pt ] || mv checkpoint.pt "$out/"
train "${teacher[@]}" "$@" --prepare-only
# the last benchmark, the checkpoint and the way back take a while too
left=$((end - $(date +%s) - ${RESERVE:-40}))
[ "$left" -gt 0 ] || { echo "run.sh: no time is left to train in; give more minutes" >&2; exit 1; }
code=0
train "${teacher[@]}" "$@" --hours "$(python3 -c "print($left / 3600)")" --benchmark-minutes 1000 || code=$?
rm -rf "$out/tensorboard"
if [ -n "${SPLIT:-}" ]; then
  for file in "$out"/checkpoint.pt "$out"/best.onnx; do
    [ ! -e "$file" ] || { split -d -b "$SPLIT" "$file" "$file." && rm "$file"; }
  done
fi
exit "$code"
RUN
sed -i "s/@TEACHER@/$teacher/g" "$pack/run.sh"

if [ -n "${PACK_ONLY:-}" ]; then
  rm -rf "$out/pack" && mv "$pack" "$out/pack" && du -sm "$out/pack"
  exit 0
fi
options=$(printf ' %q' "$@")
# everything that is said there goes to standard error: standard output is the way back of the files
there="d=\$(mktemp -d) && cd \"\$d\" && tar xf - && { SPLIT=${SPLIT:-} RESERVE=${RESERVE:-40} bash run.sh $minutes \"\$d/out\"$options >&2 \
|| touch out/failed; tar cf - out; cd / && rm -rf \"\$d\"; }"
tar -C "$pack" -cf - . | $via "$there" | tar -C "$out" --strip-components=1 -xf -
[ ! -e "$out/failed" ] || { rm "$out/failed"; echo "train_on_accelerator: the training there failed; what it left is in $out" >&2; exit 1; }
ls -l "$out"
