"""Trajectories: errors by hand, invariance, both file formats, damaged files, and real motions."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tiepoints.benchmarks.trajectories import Trajectory, evaluate_trajectories, read_trajectory, trajectory_errors
from tiepoints.errors import InvalidInputError, StorageError
from tiepoints.metrics.trajectories import rms_after_alignment, robust_ate

COUNT = 12


def rotation(*degrees: float) -> np.ndarray:
    return cv2.Rodrigues(np.radians(degrees))[0]


def pose(R: np.ndarray, t) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = R, t
    return matrix


def curve(count: int = COUNT) -> np.ndarray:
    """A helix, the camera turning along it."""
    return np.array(
        [pose(rotation(0, 8 * i, 2 * i), [math.cos(0.4 * i), math.sin(0.4 * i), 0.1 * i]) for i in range(count)]
    )


def moved(poses: np.ndarray, R: np.ndarray, t, scale: float) -> np.ndarray:
    """The same motion seen from another world frame: positions are scaled too."""
    result = pose(R, t) @ poses
    result[:, :3, 3] = scale * poses[:, :3, 3] @ R.T + t
    return result


def write_tum(path: Path, poses: np.ndarray, stamps: np.ndarray) -> Path:
    from scipy.spatial.transform import Rotation

    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    rows = np.column_stack((stamps, poses[:, :3, 3], quaternions))
    np.savetxt(path, rows, fmt="%.9f", header="timestamp tx ty tz qx qy qz qw")
    return path


TRUTH = Trajectory(curve(), name="truth")
vector = st.tuples(*[st.floats(-90, 90)] * 3)


@given(turn=vector, shift=vector, scale=st.floats(0.05, 20))
def test_similarities_do_not_count(turn, shift, scale) -> None:
    estimate = Trajectory(moved(curve(), rotation(*turn), shift, scale))
    found, _ = trajectory_errors(estimate, TRUTH)
    assert found["ate_rmse"] == pytest.approx(0, abs=1e-6)
    assert found["rpe_rmse"] == pytest.approx(0, abs=1e-6)
    assert found["rpe_degrees_max"] == pytest.approx(0, abs=1e-4)
    assert found["scale"] == pytest.approx(1 / scale, rel=1e-6)
    rigid, _ = trajectory_errors(Trajectory(moved(curve(), rotation(*turn), shift, 1)), TRUTH, align="se3")
    assert rigid["ate_rmse"] == pytest.approx(0, abs=1e-6) and rigid["scale"] == 1


def test_without_alignment_by_hand() -> None:
    poses = curve()
    poses[:, 0, 3] += 3
    poses[:, 1, 3] += 4
    found, distances = trajectory_errors(Trajectory(poses), TRUTH, align="none")
    assert [found[f"ate_{what}"] for what in ("rmse", "mean", "median", "max")] == pytest.approx([5] * 4)
    assert found["rpe_max"] == pytest.approx(0, abs=1e-9), "the motion is the same"
    assert found["matched"] == COUNT and found["coverage"] == 1 and len(distances) == COUNT
    poses = curve()
    poses[4, :3, 3] += [0, 0, 6]  # one pose of twelve is 6 off
    found, _ = trajectory_errors(Trajectory(poses), TRUTH, align="none")
    assert found["ate_rmse"] == pytest.approx(6 / math.sqrt(12)) and found["ate_mean"] == pytest.approx(0.5)
    assert found["ate_median"] == pytest.approx(0, abs=1e-9) and found["ate_max"] == pytest.approx(6)
    assert found["rpe_rmse"] == pytest.approx(6 * math.sqrt(2 / 11)), "two of eleven motions, there and back"


def test_relative_rotation_by_hand() -> None:
    # Turned about the world's z by one more degree every frame; the positions stay.
    drift = np.array([pose(rotation(0, 0, i) @ p[:3, :3], p[:3, 3]) for i, p in enumerate(curve())])
    one, three = (trajectory_errors(Trajectory(drift), TRUTH, align="none", delta=d)[0] for d in (1, 3))
    assert one["rpe_degrees_rmse"] == pytest.approx(1, abs=1e-6)
    assert three["rpe_degrees_rmse"] == pytest.approx(3, abs=1e-6)
    assert one["ate_rmse"] == pytest.approx(0, abs=1e-9)


def test_scale_needs_sim3() -> None:
    half = Trajectory(moved(curve(), np.eye(3), [0, 0, 0], 0.5))
    assert trajectory_errors(half, TRUTH, align="se3")[0]["ate_rmse"] > 0.3
    assert trajectory_errors(half, TRUTH)[0]["ate_rmse"] == pytest.approx(0, abs=1e-9)


def test_poses_are_found_by_their_times(tmp_path: Path) -> None:
    stamps = 1e9 + 0.1 * np.arange(COUNT)
    truth = read_trajectory(write_tum(tmp_path / "truth.txt", curve(), stamps))
    some = [0, 2, 3, 5, 7, 8, 11]
    estimate = read_trajectory(write_tum(tmp_path / "e.txt", moved(curve(), rotation(9, 8, 7), [1, 2, 3], 2)[some],
                                         stamps[some] + 0.004))  # fmt: skip
    found, _ = trajectory_errors(estimate, truth)
    assert found["matched"] == 7 and found["coverage"] == 7 / COUNT
    assert found["ate_rmse"] == pytest.approx(0, abs=1e-6) and found["scale"] == pytest.approx(0.5)
    with pytest.raises(InvalidInputError, match=r"no times in common, give or take 0\.001 s \(1000000000\.004 to"):
        trajectory_errors(estimate, truth, max_difference=0.001)


def test_refused(tmp_path: Path) -> None:
    timed = Trajectory(curve(), np.arange(COUNT), name="timed")
    for estimate, truth, message in (
        (timed, TRUTH, r"timed has times \(TUM\) and truth has none \(KITTI\)"),
        (TRUTH, timed, r"timed has times"),
        (Trajectory(curve(5), name="short"), TRUTH, "short has 5 poses and truth 12"),
        (Trajectory(curve(2)), Trajectory(curve(2)), "three are needed"),
        (Trajectory(np.eye(4)[None].repeat(COUNT, 0), name="still"), TRUTH, "still: cannot be aligned with truth"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            trajectory_errors(estimate, truth)
    with pytest.raises(InvalidInputError, match="known are sim3, se3, none"):
        trajectory_errors(TRUTH, TRUTH, align="sim2")  # type: ignore[arg-type]
    for options in ({"delta": 0}, {"max_difference": -1}, {"max_difference": math.nan}, {"delta": COUNT}):
        with pytest.raises(InvalidInputError, match="delta is"):
            trajectory_errors(TRUTH, TRUTH, **options)
    bad = curve()
    for row, column, value, message in ((3, 0, 2.0, "matrix of pose 4"), (3, 3, math.inf, "not finite")):
        spoilt = bad.copy()
        spoilt[row, 0, column] = value
        with pytest.raises(InvalidInputError, match=message):
            Trajectory(spoilt)
    with pytest.raises(InvalidInputError, match="does not increase from pose 2"):
        Trajectory(curve(3), [0, 1, 1])
    with pytest.raises(InvalidInputError, match="shape"):
        Trajectory(np.eye(4))


def noisy() -> tuple[Trajectory, Trajectory]:
    """40 noisy poses of a helix with 60, in another frame and scale, their times off by up to 0.03 s."""
    rng = np.random.default_rng(3)
    truth = Trajectory(curve(60), 0.1 * np.arange(60), name="truth")
    chosen = np.sort(rng.permutation(60)[:40])
    poses = moved(curve(60)[chosen], rotation(10, 20, 30), [1, 2, 3], 2.5)
    poses[:, :3, 3] += rng.normal(0, 0.05, (40, 3))
    poses[:, :3, :3] = [R @ rotation(*rng.normal(0, 1, 3)) for R in poses[:, :3, :3]]
    return Trajectory(poses, 0.1 * chosen + rng.uniform(-0.03, 0.03, 40), name="estimate"), truth


# alignment, delta, matched poses, scale, then rmse, median and max of ATE, of RPE and of RPE in degrees.
# By evo 1.38.1 (GPL 3.0, 340 MB with what it needs, hence not installed here): associate_trajectories(max_diff=0.02),
# align(correct_scale=...), APE and RPE of PoseRelation.translation_part and rotation_angle_deg, Unit.frames, all pairs.
EVO = """
sim3 1 26 0.3996167 0.0357293 0.03395007 0.06537666 0.05983236 0.05510255 0.09449638 2.122768 2.099771 3.525578
sim3 5 26 0.3996167 0.0357293 0.03395007 0.06537666 0.06200202 0.056027 0.1202559 2.37399 2.177571 3.380831
se3 1 26 1 2.988981 2.597663 4.824094 1.520923 1.065539 3.023866 2.122768 2.099771 3.525578
se3 5 26 1 2.988981 2.597663 4.824094 2.729862 2.853417 3.231209 2.37399 2.177571 3.380831
none 1 26 1 8.437147 7.146304 12.43739 1.520923 1.065539 3.023866 2.122768 2.099771 3.525578
none 5 26 1 8.437147 7.146304 12.43739 2.729862 2.853417 3.231209 2.37399 2.177571 3.380831
"""


@pytest.mark.parametrize("row", EVO.split("\n")[1:-1])
def test_figures_are_evos(row: str) -> None:
    align, delta, matched, *figures = row.split()
    found, _ = trajectory_errors(*noisy(), align=align, delta=int(delta))  # type: ignore[arg-type]
    names = ("rmse", "median", "max")
    ours = [found[f"{errors}_{name}"] for errors in ("ate", "rpe", "rpe_degrees") for name in names]
    assert found["matched"] == int(matched) and [found["scale"], *ours] == pytest.approx(
        list(map(float, figures)), rel=1e-6
    )


@pytest.mark.parametrize("place", [(4, 0, 3), (4, 2, 3), (0, 0, 0)])
@pytest.mark.parametrize("value", [-1e308, 1e308, 1e200])
def test_huge_numbers_are_refused_not_pondered(place: tuple[int, int, int], value: float) -> None:
    poses = curve()
    poses[place] = value
    with pytest.raises(InvalidInputError, match=f"huge: pose {place[0] + 1} has a number beyond 1e\\+100"):
        Trajectory(poses, name="huge")


def test_large_and_small_units_align_alike() -> None:
    for unit in (1e90, 1e-90):
        large = Trajectory(moved(curve(), np.eye(3), [0, 0, 0], unit))
        found, _ = trajectory_errors(large, TRUTH)
        assert found["ate_rmse"] == pytest.approx(0, abs=1e-9) and found["scale"] == pytest.approx(1 / unit)
        assert trajectory_errors(large, large)[0]["ate_rmse"] == pytest.approx(0, abs=1e-9 * unit)


def test_kitti_and_odd_spacing(tmp_path: Path) -> None:
    path = tmp_path / "poses.txt"
    lines = ["\ufeff# poses", ""] + ["\t".join(f"{v:.9g}" for v in p[:3].ravel()) + "  \r" for p in curve()]
    path.write_text("\n".join(lines), encoding="utf-8")
    found = read_trajectory(path)
    assert found.stamps is None and len(found) == COUNT
    np.testing.assert_allclose(found.poses, curve(), atol=1e-8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no poses in it"),
        (b"# only a comment\n", "no poses in it"),
        (b"1 2 3\n", "line 1: 3 numbers, but 8 \\(TUM\\) or 12 \\(KITTI\\) are expected"),
        (b"0 0 0 0 0 0 0 1\n1 0 0 0 0 0 0\n", "line 2: 7 numbers, but 8 as before"),
        (b"0 0 0 0 0 0 0 1\n1 0 0 x 0 0 0 1\n", "line 2: '1 0 0 x 0 0 0 1' are not numbers"),
        (b"# t\n0 0 0 0 0 0 0 0.5\n", "line 2: the quaternion has length 0.5"),
        (b"0 nan 0 0 0 0 0 1\n", "a pose is not finite"),
        (b"0 0 0 0 nan 0 0 1\n", "line 1: the quaternion has length nan"),
        (b"1 0 0 0 0 0 0 1\n0 0 0 0 0 0 0 1\n", "does not increase from pose 1"),
        (b"1 0 0 0 0 2 0 0 0 0 1 0\n", "the matrix of pose 1 is no rotation"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_damaged_files_are_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "poses.txt"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=message) as error:
        read_trajectory(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        read_trajectory(tmp_path / "nowhere.txt")
    with pytest.raises(StorageError, match="not a regular file"):
        read_trajectory(tmp_path)


@given(content=st.binary(max_size=200) | st.text("0123456789 .e-+nainf\n#", max_size=200).map(str.encode))
def test_any_file_is_read_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "poses.txt"
    path.write_bytes(content)
    try:
        assert len(read_trajectory(path)) > 0
    except StorageError as error:
        assert "\n" not in str(error)


def test_real_motions(shared: Path, tmp_path: Path) -> None:
    truth = read_trajectory(shared / "data" / "tum_fr2_desk_20" / "groundtruth.txt")
    assert len(truth) == 20 and truth.stamps is not None
    kitti = read_trajectory(shared / "data" / "kitti00_first140" / "poses.txt")
    assert len(kitti) == 140 and kitti.stamps is None
    noisy = kitti.poses.copy()
    noisy[:, :3, 3] += np.random.default_rng(0).normal(0, 0.1, (140, 3))
    found, _ = trajectory_errors(Trajectory(noisy), kitti)
    assert found["length"] == pytest.approx(101.8, abs=0.1), "as the set's README says"
    assert found["ate_rmse"] == pytest.approx(0.1 * math.sqrt(3), rel=0.1)
    assert found["rpe_rmse"] == pytest.approx(0.1 * math.sqrt(6), rel=0.1)
    assert found["scale"] == pytest.approx(1, abs=0.01)


def test_report_has_a_row_for_each() -> None:
    report = evaluate_trajectories({"a": Trajectory(curve()), "b": Trajectory(curve())}, TRUTH)
    assert [row.method for row in report.table.rows] == ["a", "b"]
    assert len(report.details) == 2 * COUNT and len(report.plots[0].series) == 2


# The ATE of the Image Matching Benchmark.

CENTRES = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0.5, 0], [3, 1.5, 0], [3.5, 3, 0.5], [3, 4, 1], [2, 5, 1]])


def moved_points(points: np.ndarray, turn: tuple[float, ...], shift: tuple[float, ...], scale: float) -> np.ndarray:
    return scale * points @ cv2.Rodrigues(np.array(turn))[0].T + shift


@given(turn=vector, shift=vector, scale=st.floats(0.01, 100))
def test_similarities_do_not_count_robustly(turn, shift, scale) -> None:
    estimated = moved_points(CENTRES, turn, shift, scale)
    assert robust_ate(estimated, CENTRES) == pytest.approx(0, abs=1e-6)
    assert rms_after_alignment(estimated, CENTRES) == pytest.approx(0, abs=1e-6)
    noisy = CENTRES + 0.05 * np.random.default_rng(0).normal(size=CENTRES.shape)
    rms, ate = rms_after_alignment(noisy, CENTRES), robust_ate(noisy, CENTRES)
    assert rms_after_alignment(moved_points(noisy, turn, shift, scale), CENTRES) == pytest.approx(rms, rel=1e-6)
    assert robust_ate(moved_points(noisy, turn, shift, scale), CENTRES) == pytest.approx(ate, rel=1e-6)
    assert 0 < rms < 0.12 and 0 < ate < 0.2


def test_outliers_and_worst_cases_of_the_ate() -> None:
    wild = CENTRES.copy()
    wild[2] += [50, -30, 20]
    assert robust_ate(wild, CENTRES) == pytest.approx(0, abs=1e-9), "the mean of the inliers' distances"
    assert rms_after_alignment(wild, CENTRES) > 1, "the root mean square has no outliers"
    line = np.outer(np.arange(7), [1.0, 2, 3])
    assert robust_ate(line, CENTRES) == pytest.approx(np.linalg.norm([3.5, 5, 1]) / 2), "half the box"
    mirrored = CENTRES * [1, 1, -1]
    assert rms_after_alignment(mirrored, CENTRES) > 0.1, "a mirror image is no similarity"
    assert rms_after_alignment(line, CENTRES) is None
    for metric in (robust_ate, rms_after_alignment):
        assert metric(CENTRES[:2], CENTRES[:2]) is None
        assert metric(CENTRES[:3], CENTRES[:3] * 2) == pytest.approx(0, abs=1e-9)


def test_three_tenths_of_inliers_are_needed_for_the_ate() -> None:
    """Of 12 true centres on a sphere, which no wrong alignment meets, 3 or 4 are found; the others are far off."""
    golden = (1 + 5**0.5) / 2
    corners = np.array([[0, x, y * golden] for x in (-1, 1) for y in (-1, 1)])
    truth = np.concatenate([np.roll(corners, i, axis=1) for i in range(3)])
    few, enough = truth.copy(), truth.copy()
    few[3:] = enough[4:] = [900, -700, 400]
    assert robust_ate(few, truth) == pytest.approx(np.linalg.norm(np.ptp(truth, axis=0)) / 2)
    assert robust_ate(enough, truth) == pytest.approx(0, abs=1e-9)
