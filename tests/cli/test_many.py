"""`extract` and `match` on many images: names and contents of all kinds, one bad item, interruptions, options."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import tiepoints as tp
from tiepoints.cli import cli
from tiepoints.storage import FeatureReader, MatchReader, read_colmap


def run(*arguments: object) -> Result:
    """The command line in this process."""
    return CliRunner().invoke(cli, [os.fsdecode(str(argument)) for argument in arguments])


@pytest.fixture(scope="module")
def box(examples: Path) -> bytes:
    return (examples / "box.png").read_bytes()


def test_another_photograph_of_a_known_name_is_done_anew_with_a_line(examples: Path, tmp_path: Path) -> None:
    for name, source in (("cam0", "box.png"), ("cam1", "box_in_scene.png")):
        (tmp_path / name).mkdir()
        shutil.copy(examples / source, tmp_path / name / "0.png")
    out = tmp_path / "f.h5"
    assert run("extract", tmp_path / "cam0", "-e", "orb", "--out", out).exit_code == 0
    second = run("extract", tmp_path / "cam1", "-e", "orb", "--out", out)
    assert "0.png is another photograph" in second.stderr and "there already" not in second.stdout
    expected = tp.load("orb", max_keypoints=2048)(tp.read(examples / "box_in_scene.png"))
    with FeatureReader(out) as stored:
        np.testing.assert_array_equal(stored["0.png"].keypoints, expected.keypoints)
    shutil.copy(tmp_path / "cam1" / "0.png", tmp_path / "cam1" / "1.png")
    third = run("extract", tmp_path / "cam1", "-e", "orb", "--out", out, "--json")
    assert [image["skipped"] for image in json.loads(third.stdout)["images"]] == [True, False]


def test_weights_that_changed_under_their_name_are_not_mixed(examples: Path, tmp_path: Path) -> None:
    weights, out = tmp_path / "mine.onnx", tmp_path / "f.h5"
    released = sorted((Path(tp.__file__).parent / "weights").glob("mdnet*.onnx"))
    shutil.copy(released[0], weights)
    arguments = ("extract", examples / "box.png", "-O", f"weights={weights}", "--out", out)
    assert run(*arguments).exit_code == 0
    shutil.copy(released[1], weights)
    result = run(*arguments)
    assert result.exit_code == 1 and "other weights or versions" in result.stderr and "--overwrite" in result.stderr
    assert run(*arguments, "--overwrite").exit_code == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_items_that_are_no_photographs_cost_no_other(box: bytes, tmp_path: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "f.h5"
    folder.mkdir()
    for name in (b"a.png", b"z.png", b"caf\xe9.png", b"C:\\x.png"):
        (folder / os.fsdecode(name)).write_bytes(box)
    os.mkfifo(folder / "pipe.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "nowhere.png").symlink_to("gone.png")
    (folder / "a\033[31m\nb.png").write_bytes(b"")
    (folder / "clip.mp4").write_bytes(b"")
    (folder / "raw.CR2").write_bytes(b"")
    for _ in range(2):
        result = run("extract", folder, "-e", "orb", "--out", out)
        assert result.exit_code == 1 and "\033" not in result.stderr
        for name in ("pipe.png: not a regular file", "loop.png: ", "nowhere.png: leads nowhere", "\\x1b[31m\\nb.png: "):
            assert name in result.stderr
        assert "left out: clip.mp4, raw.CR2" in result.stderr
        assert len(result.stderr.splitlines()) == 8, result.stderr
        with FeatureReader(out) as stored:
            assert stored.names() == ["a.png", "z.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5", "photos"]
    listed = run("extract", folder, "-e", "orb", "--out", out, "--json")
    assert len(json.loads(listed.stdout)["failed"]) == 6


def test_lists_and_masks(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    photograph = tp.read(examples / "box.png")
    shutil.copy(examples / "box.png", tmp_path / "box.png")
    mask = np.zeros_like(photograph)
    mask[:, :100, 2] = 1  # blue only, and dark
    Image.fromarray(mask).save(tmp_path / "masks" / "box.png.png")
    (tmp_path / "list.txt").write_text("# images\nbox.png\ngone.png\n", encoding="utf-8")
    out = tmp_path / "f.h5"
    result = run("extract", tmp_path / "list.txt", "-e", "orb", "--mask", tmp_path / "masks", "--out", out)
    assert result.exit_code == 1 and "gone.png: no such file" in result.stderr
    with FeatureReader(out) as stored:
        assert stored.names() == ["box.png"]
        assert len(stored["box.png"]) > 20 and stored["box.png"].keypoints[:, 0].max() < 100
    plain = run("extract", tmp_path / "box.png", "-e", "orb", "--out", out)
    assert "is another photograph" in plain.stderr, "without its mask it is another input"


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_one_mask_for_all(examples: Path, tmp_path: Path, suffix: str) -> None:
    mask = np.zeros((480, 640), np.uint8)
    mask[:, :300] = 255
    Image.fromarray(mask).save(tmp_path / f"mask{suffix}", quality=50)
    both = [examples / "desk_1.jpg", examples / "desk_2.jpg"]
    result = run("extract", *both, "-e", "orb", "--mask", tmp_path / f"mask{suffix}", "--out", tmp_path / "f.h5")
    assert result.exit_code == 0, result.stderr
    with FeatureReader(tmp_path / "f.h5") as stored:
        for name in stored:
            assert len(stored[name]) > 100 and stored[name].keypoints[:, 0].max() < 302
    pair = run("match", *both, "-e", "orb", "--mask", tmp_path / f"mask{suffix}", "--out", tmp_path / "m.npz")
    assert pair.exit_code == 0, pair.stderr
    with np.load(tmp_path / "m.npz") as arrays:
        assert arrays["points_a"][:, 0].max() < 302 and arrays["points_b"][:, 0].max() < 302
    wrong = run("extract", examples / "box.png", "-e", "orb", "--mask", tmp_path / f"mask{suffix}")
    assert wrong.exit_code == 1 and f"mask{suffix} has 640x480 pixels, but the image has 324x223" in wrong.stderr


def test_a_mask_of_the_stored_pixels_turns_with_the_photograph(examples: Path, tmp_path: Path) -> None:
    """COLMAP's masks lie on the pixels as they are stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(examples / "desk_1.jpg").save(tmp_path / "turned.jpg", exif=exif, quality=95)
    mask = np.zeros((480, 640), np.uint8)
    mask[:, :300] = 255  # of the stored picture; the upper part of the upright one
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (one,) = tp.collection.Collection.from_sources([tmp_path / "turned.jpg"], masks=tmp_path / "mask.png").values()
    np.testing.assert_array_equal(one.read_mask(), np.rot90(mask, -1))


def test_photographs_that_exif_turns_are_named_for_hloc(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in (1, 2):
        Image.open(examples / f"desk_{i}.jpg").save(tmp_path / "photos" / f"{i}.jpg", exif=exif if i == 2 else b"")
    for command in (["extract"], ["match"]):
        out = tmp_path / f"{command[0]}.h5"
        result = run(*command, tmp_path / "photos", "-e", "orb", "--out", out)
        assert "1 of 2 photographs are turned by EXIF, for instance 2.jpg" in result.stderr
    database = run("match", tmp_path / "photos", "-e", "orb", "--out", tmp_path / "m.db")
    assert "turned by EXIF" not in database.stderr


def test_keypoints_of_the_stored_pixels_for_hloc(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in (1, 2):
        Image.open(examples / f"desk_{i}.jpg").save(tmp_path / "photos" / f"{i}.png", exif=exif if i == 2 else None)
    files = {}
    for name, options in (("upright", []), ("stored", ["--stored-pixels"])):
        result = run("match", tmp_path / "photos", "-e", "orb", "--out", tmp_path / f"{name}.h5", *options)
        assert ("turned by EXIF" in result.stderr) == (name == "upright")
        with FeatureReader(tmp_path / f"{name}-features.h5") as reader:
            files[name] = {image: reader[image] for image in reader}
    np.testing.assert_array_equal(files["upright"]["1.png"].keypoints, files["stored"]["1.png"].keypoints)
    upright, stored = files["upright"]["2.png"], files["stored"]["2.png"]
    assert upright.image_size == (480, 640) and stored.image_size == (640, 480)
    # turned clockwise to be upright: the stored x is the upright y
    np.testing.assert_allclose(stored.keypoints[:, 0], upright.keypoints[:, 1], atol=1e-3)
    np.testing.assert_allclose(stored.keypoints[:, 1], 479 - upright.keypoints[:, 0], atol=1e-3)
    refused = run("match", examples / "desk_1.jpg", examples / "desk_2.jpg", "--stored-pixels")
    assert refused.exit_code == 2 and "--stored-pixels: for a FOLDER" in refused.stderr


def test_deep_images_on_one_scale(examples: Path, tmp_path: Path) -> None:
    """Frames of a thermal camera, one of them with something hot in a third of the picture."""
    scene = tp.read(examples / "desk_1.jpg", grey=True).astype(np.uint16) * 20 + 27000
    hot = scene.copy()
    hot[:, :200] += 20000
    for name, values in (("a.png", scene), ("b.png", hot)):
        Image.fromarray(values).save(tmp_path / name)
    photographs = tp.collection.Collection.from_sources([tmp_path])
    own, one = photographs, photographs.with_value_range(27000, 32100)
    assert (own["a.png"].read()[:, 300:] != own["b.png"].read()[:, 300:]).mean() > 0.5
    np.testing.assert_array_equal(one["a.png"].read()[:, 300:], one["b.png"].read()[:, 300:])
    assert own["a.png"].key != one["a.png"].key
    both, limits = [tmp_path / "a.png", tmp_path / "b.png"], ["--value-range", 27000, 32100]
    assert run("extract", *both, "-e", "orb", *limits, "--out", tmp_path / "f.h5").exit_code == 0
    with FeatureReader(tmp_path / "f.h5") as stored:
        found = [{tuple(p) for p in stored[name].keypoints.tolist() if p[0] > 300} for name in ("a.png", "b.png")]
    assert len(found[0] & found[1]) > 0.8 * len(found[0])
    plain = json.loads(run("match", *both, "-e", "orb", "--json").stdout)["inliers"]
    assert json.loads(run("match", *both, "-e", "orb", *limits, "--json").stdout)["inliers"] > plain
    wrong = run("extract", *both, "-e", "orb", "--value-range", 2, 1, "--out", tmp_path / "g.h5")
    assert wrong.exit_code == 2 and "the first must be lower" in wrong.stderr


def test_options_of_a_folder_are_refused_with_two_images(examples: Path) -> None:
    result = run("match", examples / "desk_1.jpg", examples / "desk_2.jpg", "--pairs", "sequential")
    assert result.exit_code == 2 and "--pairs: for a FOLDER, not for two images" in result.stderr


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    """A video of a camera that moves over a photograph."""
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    desk = cv2.imread(str(examples / "desk_1.jpg"))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (400, 300))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video")
    for i in range(12):
        writer.write(desk[10 * i : 10 * i + 300, 15 * i : 15 * i + 400])
    writer.release()
    return path


def test_the_size_of_a_frame_is_told_without_decoding_those_before_it(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiepoints.collection import Collection, videos

    frames = Collection.from_sources([clip])
    with monkeypatch.context() as patch:
        patch.setattr(videos, "read_frame", None)
        assert {one.header for one in frames.values()} == {((400, 300), 1)}
    assert frames[list(frames)[-1]].read().shape == (300, 400, 3)


def test_a_video_that_ends_early_is_decoded_once(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiepoints.collection import videos

    opened: list[Path] = []
    monkeypatch.setattr(videos, "_opened", lambda path, of=videos._opened: opened.append(path) or of(path))
    for number in range(11, 40):  # the clip has 12
        if number == 11:
            videos.read_frame(clip, number)
        else:
            with pytest.raises(tp.ImageError, match=f"the video ends before frame {number}"):
                videos.read_frame(clip, number)
    assert len(opened) == 1
    data = bytearray(clip.read_bytes())
    at = data.index((12).to_bytes(4, "little"))  # the number of frames in its header
    for place in range(at, 300):
        if data[place : place + 4] == (12).to_bytes(4, "little"):
            data[place : place + 4] = (10**9).to_bytes(4, "little")
    (tmp_path / "vast.avi").write_bytes(data)
    with pytest.raises(tp.ImageError, match="tells no number of frames"):
        videos.frames_of(tmp_path / "vast.avi")
    (tmp_path / "list.txt").write_bytes(b"no\0file.jpg\n")
    result = run("extract", tmp_path / "list.txt", "-e", "orb", "--out", tmp_path / "f.h5")
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1, result.stderr


def test_pairs_without_depth_are_told_in_one_line_a_kind(box: bytes, tmp_path: Path) -> None:
    (tmp_path / "same").mkdir()
    for number in range(5):
        (tmp_path / "same" / f"{number}.png").write_bytes(box)
    result = run("match", tmp_path / "same", "-e", "orb", "-n", 300, "--out", tmp_path / "m.h5")
    assert result.exit_code == 0
    said = "nothing moves: the same picture, or a camera that stood still"
    assert f"    10 of them: {said}" in result.stdout
    names = "0.png - 1.png, 0.png - 2.png, 0.png - 3.png and 7 more (--json lists them)"
    assert result.stderr.splitlines() == [f"       {said}: {names}"]


def test_a_videos_frames(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.h5"
    result = run("extract", clip, "--every", 4, "-e", "orb", "--out", out)
    assert result.exit_code == 0, result.stderr
    with FeatureReader(out) as stored:
        assert stored.names() == [f"clip.avi/{i:06d}" for i in (0, 4, 8)]
        frames = [stored[name] for name in stored]
    video = cv2.VideoCapture(str(clip))
    images = [video.read()[1] for _ in range(9)]
    for i, features in zip((0, 4, 8), frames, strict=True):
        expected = tp.load("orb", max_keypoints=2048)(np.ascontiguousarray(images[i][:, :, ::-1]))
        np.testing.assert_array_equal(features.keypoints, expected.keypoints)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    broken = run("extract", tmp_path / "broken.mp4", "-e", "orb", "--out", out)
    assert broken.exit_code == 1 and "cannot be opened as a video" in broken.stderr
    for command in (
        ["match", "--out", tmp_path / "m.h5"],
        ["pairs", "--kind", "exhaustive", "--out", tmp_path / "p.txt"],
        ["compare"],
    ):
        other = run(command[0], tmp_path / "broken.mp4", *command[1:])
        assert other.exit_code == 1 and other.stderr == broken.stderr, command


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    """Frames of a camera that moves, whose numbers have no leading zeros; one is called in decomposed Unicode."""
    folder = tmp_path_factory.mktemp("frames")
    desk = Image.open(examples / "desk_1.jpg")
    for i in (1, 2, 9, 10):
        desk.crop((12 * i, 6 * i, 12 * i + 400, 6 * i + 300)).save(folder / f"frame{i}.png")
    return folder


def test_a_folder_becomes_hlocs_files_and_goes_on(frames: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "frames", tmp_path / "out" / "m.h5"
    shutil.copytree(frames, folder)
    (folder / "bad.png").write_text("no image", encoding="utf-8")
    arguments = ("match", folder, "-e", "orb", "--pairs", "sequential:1", "--out", out, "--json")
    first = run(*arguments)
    assert first.exit_code == 1
    content = json.loads(first.stdout)
    assert content["images"] == 4 and content["verified"] == 5 and content["computed"]["matches"] == 5
    assert [item["item"] for item in content["failed"]] == ["bad.png"]
    (folder / "bad.png").unlink()
    with MatchReader(out) as matches, FeatureReader(out.parent / "m-features.h5") as features:
        neighbours = {("frame1.png", "frame2.png"), ("frame2.png", "frame9.png"), ("frame9.png", "frame10.png")}
        assert set(matches) == neighbours | {("frame1.png", "frame9.png"), ("frame2.png", "frame10.png")}
        points = matches["frame9.png", "frame10.png"].points(features["frame9.png"], features["frame10.png"])
        assert np.abs(np.median(points[0] - points[1], axis=0) - [12, 6]).max() < 1.5
    shutil.copy(folder / "frame10.png", folder / "frame11.png")
    second = json.loads(run(*arguments).stdout)
    assert second["computed"] == {"features": 0, "matches": 2, "geometry": 2}, "a copy and its pair are known"
    third = run("match", folder, "-e", "orb", "-n", 300, "--out", out)
    assert third.exit_code == 1 and "--max-keypoints 2048" in third.stderr and "--overwrite" in third.stderr


def test_a_list_of_pairs_finds_names_in_either_form_of_unicode(frames: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, name in ((1, unicodedata.normalize("NFD", "K\u00f6ln.png")), (2, "b.png")):
        shutil.copy(frames / f"frame{i}.png", folder / name)
    (tmp_path / "pairs.txt").write_text("K\u00f6ln.png b.png\nb.png K\u00f6ln.png\n", encoding="utf-8")
    result = run("match", folder, "-e", "orb", "--pairs", tmp_path / "pairs.txt", "--out", tmp_path / "m.h5")
    assert result.exit_code == 0 and "     1 pair verified" in result.stdout, result.output
    (tmp_path / "pairs.txt").write_text("x.png b.png\n", encoding="utf-8")
    wrong = run("match", folder, "-e", "orb", "--pairs", tmp_path / "pairs.txt", "--out", tmp_path / "m.h5")
    assert wrong.exit_code == 2 and "line 1: there is no image 'x.png'" in wrong.stderr


ORIENTATIONS = (1, 2, 3, 4, 5, 6, 7, 8)


def test_a_database_is_in_the_frame_of_the_stored_pixels(examples: Path, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="needs the extra sfm")
    folder = tmp_path / "photos"
    folder.mkdir()
    upright = Image.open(examples / "box_in_scene.png").convert("RGB")
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90",
             7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip
    for o in ORIENTATIONS:
        exif = Image.Exif()
        exif[0x0112] = o
        stored = upright if o == 1 else upright.transpose(getattr(Image.Transpose, turns[o]))
        stored.save(folder / f"{o}.png", exif=exif)
        assert tp.read(folder / f"{o}.png").shape == (*upright.size[::-1], 3)
    out = tmp_path / "database.db"
    result = run("match", folder, "-e", "sift", "-n", 400, "--out", out, "--camera-mode", "per-image")
    assert result.exit_code == 0, result.output
    database = read_colmap(out)
    expected = tp.read(folder / "1.png")
    for o in ORIENTATIONS:
        features, camera = database.images[f"{o}.png"]
        bitmap = pycolmap.Bitmap.read(str(folder / f"{o}.png"), True)
        assert (camera.width, camera.height) == (bitmap.width, bitmap.height) == features.image_size
        seen = np.asarray(bitmap.to_array())
        where, there = (np.rint(f.keypoints).astype(int) for f in (features, database.images["1.png"][0]))
        np.testing.assert_array_equal(seen[where[:, 1], where[:, 0]], expected[there[:, 1], there[:, 0]])
    for (a, b), view in database.two_views.items():
        points = view.matches.points(database.images[a][0], database.images[b][0])
        error = tp.geometry.sampson_error(view.matrix, *points)
        assert len(view.matches) > 100 and np.median(error) < 1, (a, b)


def test_videos_folders_and_images_are_matched_together(frames: Path, tmp_path: Path) -> None:
    names = sorted(frames.iterdir())
    video = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (400, 300))
    for path in names[:2]:
        video.write(cv2.imread(str(path)))
    video.release()
    for sources, images in (
        ((tmp_path / "clip.avi", frames), 6),
        ((names[0], tmp_path / "clip.avi"), 3),
        (names[:3], 3),
        (names[:2], 2),
    ):
        out = tmp_path / f"{images}{len(sources)}.h5"
        result = run("match", *sources, "-e", "orb", "-n", 300, "--out", out, "--json")
        content = json.loads(result.stdout)
        assert result.exit_code == 0 and content["images"] == images, result.output
        assert content["pairs"] == content["verified"] == images * (images - 1) // 2


def test_pairs_by_retrieval_are_those_of_the_command_pairs(frames: Path, tmp_path: Path) -> None:
    common = (frames, "-e", "orb", "-n", 300, "--store", tmp_path / "work")
    listed, out = tmp_path / "pairs.txt", tmp_path / "m.h5"
    assert run("pairs", *common, "--kind", "retrieval", "--top", 1, "--out", listed).exit_code == 0
    result = run("match", *common, "--pairs", "retrieval:1", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    wanted = {tuple(line.split()) for line in listed.read_text(encoding="utf-8").splitlines()}
    assert json.loads(result.stdout)["pairs"] == len(wanted) < 6
    with MatchReader(out) as held:
        assert {tuple(sorted(pair)) for pair in held} == {tuple(sorted(pair)) for pair in wanted}


def test_wrong_usage_of_a_folder(frames: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((frames,), "needs --out FILE.db"),
        ((frames, "--out", tmp_path / "x.csv"), "needs --out FILE.db"),
        ((frames / "frame1.png",), "IMAGE_B"),
        ((frames, "--out", tmp_path / "x.db", "--pairs", "all"), "sequential:N"),
        ((frames, "--out", tmp_path / "x.db", "--pairs", "retrieval:0"), "retrieval:N"),
        ((frames, "--out", tmp_path / "x.db", "--pairs", "retrieval", "--shard", "1/2"), "`tiepoints pairs --kind"),
        ((frames, "--out", tmp_path / "x.db", "--geometry", "none"), "fundamental or homography"),
        ((frames, "--out", tmp_path / "x.db", "--plot", "x.png"), f"two images, not the folder {frames}"),
        ((frames / "frame1.png", "clip.avi", "--out", "m.csv"), "the video clip.avi: every pair is matched, which"),
        ((frames / "frame1.png", frames), f"the folder {frames}: every pair"),
        ((*sorted(frames.iterdir())[:3], "--out", "m.npz"), "3 images: every pair"),
        ((frames / "frame*.png",), "the pattern"),
    ):
        result = run("match", *arguments)
        assert result.exit_code == 2 and message in result.stderr, result.output
    assert not list(tmp_path.iterdir())


def test_a_command_that_was_killed_goes_on(examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was finished before an interruption is in the store, and only the rest is computed."""
    folder, out = tmp_path / "photos", tmp_path / "f.h5"
    folder.mkdir()
    scene = Image.open(examples / "box_in_scene.png")
    for i in range(8):
        scene.rotate(5 * i).save(folder / f"{i}.png")
    from tiepoints.collection import Extract

    calls: list[str] = []
    real = Extract.__call__

    def counted(self: Any, photograph: Any) -> Any:
        calls.append(photograph.name)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(self, photograph)

    monkeypatch.setattr(Extract, "__call__", counted)
    stopped = run("extract", folder, "-e", "orb", "--out", out, "--jobs", 1)
    assert stopped.exit_code == 1 and "f.h5.work: run the same command again" in stopped.stderr
    assert not out.exists()
    assert run("extract", folder, "-e", "orb", "--out", out, "--jobs", 1).exit_code == 0
    assert len(calls) <= 10, "of eight images at most two were done twice"
    with FeatureReader(out) as stored:
        assert len(stored) == 8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5", "photos"]


@pytest.mark.parametrize(
    ("command", "rest"),
    [
        ("match", ("-e", "orb", "--out", "new.db")),
        ("match", ("-e", "orb", "--out", "new.h5")),
        ("pairs", ("--kind", "exhaustive", "--out", "new.txt")),
        ("pairs", ("--kind", "retrieval", "-e", "orb", "--out", "new.txt")),
        ("compare", ("--methods", "orb", "--plot", "new.png")),
    ],
)
def test_a_single_photograph_is_refused_where_two_are_needed(
    command: str, rest: tuple[str, ...], box: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pycolmap")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").write_bytes(box)
    result = run(command, "photos", *rest)
    assert (
        result.exit_code == 1 and "one.png: one photograph only, but" in result.stderr and "give more" in result.stderr
    )
    assert not list(tmp_path.glob("new*")), "nothing was made"
    if command == "match":
        (tmp_path / "photos" / "two.png").write_bytes(b"nothing")
        result = run(command, "photos", *rest)
        assert result.exit_code == 1 and "one.png: one photograph only" in result.stderr
        assert "1 cannot be read, for instance" in result.stderr and "two.png: not an image" in result.stderr
        assert not (tmp_path / rest[-1]).exists()


def test_what_was_not_made_is_not_said_to_be_written(box: bytes, tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    for name in ("a.png", "b.png"):  # the same picture twice tells no depth
        (tmp_path / name).write_bytes(box)
    result = run("reconstruct", tmp_path, tmp_path / "scene", "-e", "orb")
    assert result.exit_code == 1 and "wrote" not in result.output
    page = tmp_path / "scene" / "report.html"
    assert f"there is no model; why is told in {page}" in result.output and page.is_file()
    assert not (tmp_path / "scene" / "sparse").exists()
