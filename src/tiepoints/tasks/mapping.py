"""COLMAP's mappers, in a process of their own: what aborts inside COLMAP ends that process, and not the caller's.

Run as ``python -m tiepoints.tasks.mapping``: arguments as JSON on standard input, progress as JSON lines on standard
output.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import StorageError, TiepointsError
from ..files import check_space
from ..images import read
from ..optional import require
from ..storage.colmap_model import save_model
from .alignment import align_keypoints

__all__ = ["mapper_process", "run_mapper"]

# Pixels: the scale of the Cauchy loss of the last adjustment, of keypoints as they were found and of aligned ones.
# Without it the centres' mean error is 9 to 17 % greater on fountain-P11, Herz-Jesus-P8, fox and lounge. Most aligned
# keypoints are within .1 to .3 pixels of their points, and up to a quarter of them off by more than .8. The smaller
# scale was chosen by how far models of one and of the other half of the points differ, on fox, lounge, lund_door and
# victoria_memorial: in the geometric mean centres by 12 % less than at .5 and rotations by 4 %, though on fox and
# victoria_memorial by more. Ours.
_NOISE, _NOISE_ALIGNED = 1.0, 0.25
# Once they are adjusted, observations of aligned keypoints that are still further off than this are left out, and a
# smaller scale serves better: half of the others are within .05 to .13 pixels of their points. Against one adjustment,
# of six scenes temple_ring has centres nearer by 38 % and rotations by 28 %, fox rotations by 2 %; the others stay
# as they are, give or take 5 %, but victoria_memorial, whose given cameras are rough, has centres further off by 10 %.
_FAR_ALIGNED, _NOISE_LAST = 2.0, 0.15
# In that last adjustment cameras follow the observations that alignment is certain of: within so many pixels (standard
# deviation, see `patches.Located`), and in any case the best so many of each photograph. The others (edges, outlines,
# curved surfaces seen from the side) are off in common directions, which more of them do not make up for. Against all
# of them rotations are nearer by 18 % on temple_ring, 11 % on Herz-Jesus-P8 and 9 % on fountain-P11, and further off by
# 9 % on fox. Where photographs have few observations each one counts: at 400 fox was a third worse. Ours.
_UNCERTAIN, _ENOUGH = 0.24, 800
_LEAST = 2_000_000  # bytes that are free: SQLite writes beside a database that it opens, and then come the models
_PARALLEL = 30_000  # residuals from which all cores adjust; with fewer they mostly wait for each other


@contextmanager
def mapper_process() -> Iterator[subprocess.Popen[str]]:
    """A process for `run_mapper`, which loads its libraries while the caller still prepares the job; ended in any case.

    Raises
    ------
    MissingDependencyError
        If pycolmap is not installed.

    Examples
    --------
    >>> from tiepoints.tasks.mapping import mapper_process
    >>> with mapper_process() as process:
    ...     print(process.poll())  # it waits for a job
    None
    """
    require("pycolmap", "reconstruction", "sfm")
    command = [sys.executable, "-m", "tiepoints.tasks.mapping"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            with suppress(OSError):  # a job that it did not read
                assert stream is not None
                stream.close()


def run_mapper(
    job: Mapping[str, Any],
    progress: Callable[[str, int, int], None] | None = None,
    process: subprocess.Popen[str] | None = None,
) -> int:
    """Reconstruct from a COLMAP database, and return the number of models.

    Parameters
    ----------
    job : mapping
        "mapper": "incremental", "global" or "triangulate"; "database", "images", "out": paths; "min_model_size",
        "threads", "seed", "refine_focal", "refine_extra", "align": options; for "triangulate" "model": the path of the
        model with known poses, and "two_views": whether points that only two images see count.
    progress : callable, optional
        ``progress("mapping", registered, 0)``, then ``progress("aligning keypoints", done, all)``.
    process : Popen, optional
        Of `mapper_process`; by default one of its own.

    Raises
    ------
    MissingDependencyError
        If pycolmap is not installed.
    StorageError
        If the disk is full.
    TiepointsError
        If the mapper fails; what COLMAP said last is in the message.

    Examples
    --------
    >>> from tiepoints.tasks.mapping import run_mapper
    >>> job = {"mapper": "incremental", "database": "scene/database.db", "images": "photos", "out": "scene/sparse"}
    >>> job |= {"min_model_size": 3, "threads": 4, "seed": 0, "refine_focal": True, "refine_extra": True}
    >>> run_mapper(job)    # doctest: +SKIP
    1
    """
    checks.instance(job, "job", Mapping)
    if process is None:
        with mapper_process() as own:
            return run_mapper(job, progress, own)
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    models, complaints, errors = -1, [""], process.stderr

    def listen() -> None:
        with suppress(OSError, ValueError):  # whoever interrupts the job closes the pipe
            complaints[0] = errors.read()

    # All the while: once a pipe of 64 kB was full, the mapper would wait for ever.
    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    with suppress(BrokenPipeError):  # it has ended; why is what it said
        process.stdin.write(json.dumps(dict(job)))
        process.stdin.close()
    for line in process.stdout:
        try:
            said = json.loads(line)
        except ValueError:  # COLMAP's own words
            continue
        if not isinstance(said, dict):
            continue
        if progress is not None and "registered" in said:
            progress("mapping", int(said["registered"]), 0)
        if progress is not None and "aligned" in said:
            progress("aligning keypoints", int(said["aligned"]), int(said["of"]))
        if "failed" in said:
            raise StorageError(str(said["failed"]))
        models = int(said.get("models", models))
    listener.join()
    words = complaints[0].strip().splitlines()
    process.wait()
    if models < 0:
        last = words[-1] if words else f"it ended with code {process.returncode}"
        raise TiepointsError(f"COLMAP's {job['mapper']} mapper failed: {last}")
    return models


def _say(**content: int | str) -> None:
    sys.stdout.write(f"{json.dumps(content)}\n")
    sys.stdout.flush()


def _main() -> None:
    import pycolmap

    cv2.setNumThreads(1)  # for patches of a few pixels its threads take a third more core time, and gain none
    job = json.loads(sys.stdin.read())
    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    pycolmap.set_random_seed(job.get("seed", 0))
    registered = 0

    def tell(*_: Any) -> None:
        nonlocal registered
        registered += 1
        _say(registered=registered)

    check_space(job["database"], _LEAST)  # without it COLMAP only says that it cannot open its database
    out = Path(job["out"])
    out.mkdir(parents=True, exist_ok=True)
    if job["mapper"] == "triangulate":
        known = pycolmap.IncrementalPipelineOptions()
        known.triangulation.ignore_two_view_tracks = not job.get("two_views", False)
        model = pycolmap.triangulate_points(
            pycolmap.Reconstruction(job["model"]), job["database"], job["images"], str(out / "0"), options=known
        )
        models = {0: model}
        job |= {"refine_focal": False, "refine_extra": False}
    elif job["mapper"] == "global":
        whole = pycolmap.GlobalPipelineOptions()
        whole.random_seed = job.get("seed", 0)
        models = pycolmap.global_mapping(job["database"], job["images"], str(out), whole)
    else:
        options = pycolmap.IncrementalPipelineOptions()
        options.min_model_size = job.get("min_model_size", 3)
        options.random_seed = job.get("seed", 0)
        options.num_threads = job.get("threads", -1)
        options.ba_refine_focal_length = job.get("refine_focal", True)
        options.ba_refine_extra_params = job.get("refine_extra", True)
        # Fewer adjustments of all cameras, each of fewer iterations, which end where they gain next to nothing and are
        # not repeated: the next one comes soon, and ours is the last; most points follow once the cameras are adjusted
        # by the others. A third of the core time of COLMAP's own options on temple_ring, for models as accurate.
        options.ba_global_frames_ratio = options.ba_global_points_ratio = 1.6
        options.ba_global_max_num_iterations, options.ba_local_max_num_iterations = 20, 10
        options.ba_global_max_refinements = options.ba_local_max_refinements = 1
        options.ba_global_function_tolerance, options.ba_local_function_tolerance = 1e-4, 1e-2
        options.mapper.ba_global_ignore_redundant_points3D = True
        options.ba_min_num_residuals_for_cpu_multi_threading = _PARALLEL
        models = pycolmap.incremental_mapping(
            job["database"], job["images"], str(out), options, next_image_callback=tell
        )
    read_grey = partial(_grey, Path(job["images"]))
    for number, model in models.items():
        aligned = align_keypoints(model, read_grey, _say_aligned) if job.get("align") else None
        if aligned is None or not aligned.moved:
            _refine(pycolmap, model, job, _NOISE, 1e-3)
        else:
            _refine(pycolmap, model, job, _NOISE_ALIGNED, 1e-2)
            pycolmap.ObservationManager(model).filter_all_points3D(_FAR_ALIGNED, 0.0)
            _refine_by_certain(pycolmap, model, job, aligned.errors)
        save_model(out / str(number), model)
    _say(models=len(models))


def _say_aligned(done: int, every: int) -> None:
    if done == every or done % max(1, every // 100) == 0:
        _say(aligned=done, of=every)


def _grey(folder: Path, name: str) -> NDArray[np.uint8]:
    """A photograph as it is stored."""
    return read(folder / name, grey=True, upright=False)


def _refine_by_certain(pycolmap: Any, model: Any, job: Mapping[str, Any], errors: Mapping[int, Any]) -> None:
    """Adjust cameras by the observations that are certain; then points, by all of theirs, to these cameras."""
    certain = None if job["mapper"] == "triangulate" else copy.deepcopy(model)
    if certain is None or not _leave_out_uncertain(certain, errors):
        _refine(pycolmap, model, job, _NOISE_LAST, 1e-4)
        return
    _refine(pycolmap, certain, job, _NOISE_LAST, 1e-4)
    for frame in model.reg_frame_ids():
        model.frame(frame).rig_from_world = certain.frame(frame).rig_from_world
    for number, camera in model.cameras.items():
        camera.params = certain.camera(number).params
    for point in certain.point3D_ids():
        model.point3D(point).xyz = certain.point3D(point).xyz
    _refine(pycolmap, model, job, _NOISE_LAST, 1e-2, cameras=False)


def _leave_out_uncertain(model: Any, errors: Mapping[int, Any]) -> int:
    """Remove observations of photographs that have enough better ones, and say how many.

    A point with fewer than two others goes, too, but where a photograph sees it that has no more than enough.
    """
    uncertain: dict[int, list[tuple[int, int]]] = {}
    needed: set[int] = set()
    for number in model.reg_image_ids():
        seen = [(k, p.point3D_id) for k, p in enumerate(model.image(number).points2D) if p.has_point3D()]
        if len(seen) <= _ENOUGH:
            needed.update(point for _, point in seen)
            continue
        off = errors[number][[k for k, _ in seen]]
        for row in np.argsort(off, kind="stable")[_ENOUGH:].tolist():
            if off[row] > _UNCERTAIN:
                uncertain.setdefault(seen[row][1], []).append((number, seen[row][0]))
    removed = 0
    for point, observations in uncertain.items():
        length = model.point3D(point).track.length()
        if length - len(observations) >= 2:
            removed += len(observations)
            for observation in observations:
                model.delete_observation(*observation)
        elif point not in needed:
            removed += length
            model.delete_point3D(point)
    return removed


def _refine(
    pycolmap: Any, model: Any, job: Mapping[str, Any], noise: float, tolerance: float, *, cameras: bool = True
) -> None:
    """A last adjustment that wrong observations pull less at: COLMAP's own squares all that are within 4 pixels."""
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length = cameras and job.get("refine_focal", True)
    options.refine_extra_params = cameras and job.get("refine_extra", True)
    options.refine_rig_from_world = cameras and job["mapper"] != "triangulate"
    options.ceres.min_num_residuals_for_cpu_multi_threading = _PARALLEL
    solver = options.ceres.solver_options
    solver.num_threads, solver.max_num_iterations, solver.function_tolerance = job.get("threads", -1), 30, tolerance
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = noise
    pycolmap.bundle_adjustment(model, options)
    model.update_point_3d_errors()


if __name__ == "__main__":
    try:
        _main()
    except StorageError as failure:
        _say(failed=str(failure))
        sys.exit(1)
