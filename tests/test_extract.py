"""Extraction from files to a set: what is written, what is skipped, what is taken up again. The networks are stand-ins."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import types

import av
import numpy as np
import pytest
import torch
from support.paths import ROOT
from support.videos import write_video

from data_tools.check.report import check_data
from formats.unlabelled import find_videos
from options import DataOptions, RunOptions, resolve
from run.device import choose_machine
from run.lock import FolderLock
from utils.errors import InputError
from video.estimate import estimate
from video.extract import main
from video.extraction import settings
from video.feature_set import FeatureSet, Settings, write_new_json
from video.i3d import FEATURES, KINETICS_CLASSES, I3DOutput
from video.manifest import Entry
from video.options import VIDEO_FLAGS, VideoOptions
from video.pipeline import Extractor
from video.sources import Source

SECONDS = {"a": 2, "b c": 1, "déjà": 3}


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    """In the place of I3D: features tell the brightness of a snippet, each channel its own multiple. Yields the batch sizes."""
    calls = []

    class Brightness:
        def __init__(self, network, *, device, dtype):
            pass

        def __call__(self, clips):
            calls.append(len(clips))
            mean = clips.mean((1, 2, 3, 4))[:, None]
            return I3DOutput(features=mean * torch.arange(FEATURES), logits=mean * torch.arange(KINETICS_CLASSES))

    monkeypatch.setattr("video.extraction.FusedI3D", Brightness)
    monkeypatch.setattr("video.pipeline.Extractor.seconds_per_snippet", lambda self: 0.01)
    return calls


def write_clip(path, seconds, *, grey=128):
    return write_video(path, [np.full((48, 64, 3), grey, np.uint8)] * (25 * seconds))


@pytest.fixture
def clips(tmp_path):
    for i, (name, seconds) in enumerate(SECONDS.items()):
        write_clip(tmp_path / "clips" / f"{name}.mp4", seconds, grey=60 + 60 * i)
    return tmp_path / "clips"


def snippets(seconds):
    return seconds * 25 // 16


def extract(*arguments):
    return main([str(argument) for argument in arguments])


def features(out, name, split="test"):
    return np.load(out / "features" / split / "rgb" / f"{name}.npy")


def test_a_folder_becomes_a_set(clips, tmp_path, capsys):
    out = tmp_path / "DATA"
    assert extract(clips, "--out", out) == 0
    for name, seconds in SECONDS.items():
        array = features(out, name)
        assert array.shape == (snippets(seconds), FEATURES) and array.dtype == np.float16
        scores = np.load(out / "kinetics" / f"{name}.npy")
        assert scores.shape == (snippets(seconds), KINETICS_CLASSES)
    brightness = [features(out, name)[0, 100] for name in SECONDS]
    assert brightness == sorted(brightness)
    assert np.allclose(features(out, "a")[:, 100], (60 / 127.5 - 1) * 100, atol=1.5)
    metadata = json.loads((out / "metadata.json").read_text())
    assert metadata["settings"]["fps"] == 25 and metadata["settings"]["flow"] is None
    assert len(metadata["weights"]["rgb"]["sha256"]) == 64 and metadata["versions"]["av"] == av.__version__
    assert {name: video["frames"] for name, video in metadata["videos"].items()} == {
        name: 25 * seconds for name, seconds in SECONDS.items()
    }
    truth = json.loads((out / "gt.json").read_text())["database"]
    assert truth["a"] == {"subset": "test", "annotations": [], "duration": 2.0, "fps": 25.0}
    assert not (out / ".unfinished").exists()
    printed = capsys.readouterr().out
    assert "SHA-256" in printed and "RGB alone" in printed and "to do: 3 videos" in printed


def test_float32_on_request(clips, tmp_path):
    assert extract(clips / "a.mp4", "--out", tmp_path / "DATA", "--dtype", "float32") == 0
    assert features(tmp_path / "DATA", "a").dtype == np.float32


def test_overlapping_snippets(clips, tmp_path):
    assert extract(clips / "a.mp4", "--out", tmp_path / "DATA", "--snippet_stride", 4) == 0
    assert len(features(tmp_path / "DATA", "a")) == (50 - 16) // 4 + 1


def test_a_second_run_has_nothing_to_do(clips, tmp_path, networks, capsys):
    out = tmp_path / "DATA"
    assert extract(clips, "--out", out) == 0
    before, written = len(networks), {file: file.stat().st_mtime_ns for file in out.glob("features/*/*/*")}
    assert extract(clips, "--out", out) == 0
    assert len(networks) == before
    assert {file: file.stat().st_mtime_ns for file in out.glob("features/*/*/*")} == written
    assert "has 3 videos of 3 already" in capsys.readouterr().out


def test_what_is_missing_or_has_changed_is_extracted_again(clips, tmp_path, networks):
    out = tmp_path / "DATA"
    assert extract(clips, "--out", out) == 0
    (out / "features" / "test" / "rgb" / "a.npy").unlink()
    write_clip(clips / "b c.mp4", 4, grey=20)
    networks.clear()
    assert extract(clips, "--out", out) == 0
    assert sum(networks) == snippets(SECONDS["a"]) + snippets(4)
    assert len(features(out, "b c")) == snippets(4)


def test_an_interrupted_run_leaves_whole_videos_and_is_continued(clips, tmp_path, monkeypatch, capsys):
    out = tmp_path / "DATA"
    real, left = np.save, [4]  # files until the interrupt: features and scores of two videos

    def save(file, array):
        left[0] -= 1
        if left[0] < 0:
            file.write(b"half of it")
            raise KeyboardInterrupt
        real(file, array)

    monkeypatch.setattr("video.feature_set.np.save", save)
    assert extract(clips, "--out", out) == 1
    assert "the same command continues" in capsys.readouterr().err
    assert (out / ".unfinished").exists() and not (out / "gt.json").exists()
    assert sorted(path.name for path in (out / "features").rglob("*") if path.is_file()) == ["a.npy", "déjà.npy"]
    monkeypatch.setattr("video.feature_set.np.save", real)
    assert extract(clips, "--out", out) == 0
    assert "has 2 videos of 3 already" in capsys.readouterr().out
    assert not list(out.rglob("*.tmp")) and len(features(out, "b c")) == 1


def test_a_bad_video_is_skipped_told_and_listed(clips, tmp_path, capsys):
    (clips / "broken.mp4").write_bytes(b"no video at all")
    assert extract(clips, "--out", tmp_path / "DATA") == 1
    printed = capsys.readouterr()
    lines = [line for line in printed.out.splitlines() if "broken.mp4" in line]
    assert len(lines) == 2 and lines[1].startswith("    ") and "1 file skipped:" in printed.out
    assert sorted((tmp_path / "DATA" / "split_test.txt").read_text().splitlines()) == sorted(SECONDS)
    assert "Traceback" not in printed.err


def test_only_bad_videos(tmp_path, capsys):
    (tmp_path / "x.mp4").write_bytes(b"no video at all")
    assert extract(tmp_path / "x.mp4", "--out", tmp_path / "DATA") == 2
    error = capsys.readouterr().err
    assert "x.mp4: not a video" in error and len(error.splitlines()) == 1
    assert not (tmp_path / "DATA").exists()


def test_two_videos_of_one_name(clips, tmp_path, capsys):
    write_clip(clips / "inner" / "a.avi", 1)
    assert extract(clips, "--out", tmp_path / "DATA") == 1
    printed = capsys.readouterr().out
    assert printed.count("so both would be video 'a'; rename one") == 4  # each of the two, told and listed
    assert not (tmp_path / "DATA" / "features" / "test" / "rgb" / "a.npy").exists()


@pytest.mark.parametrize(
    ("flag", "value"), [("--fps", "12.5"), ("--snippet_stride", "8"), ("--dtype", "float32"), ("--short_side", "300")]
)
def test_other_settings_are_not_mixed_into_a_set(clips, tmp_path, capsys, flag, value):
    out = tmp_path / "DATA"
    assert extract(clips / "a.mp4", "--out", out) == 0
    assert extract(clips / "b c.mp4", "--out", out, flag, value) == 2
    error = capsys.readouterr().err
    assert f"extracted with {flag} " in error and f"this call has {value}" in error and len(error.splitlines()) == 1
    assert len(features(out, "a")) and not (out / ".unfinished").exists()


def test_shares_of_a_manifest_make_the_whole(clips, tmp_path, capsys):
    out = tmp_path / "DATA"
    assert extract(clips, "--out", out, "--shard", "2/2") == 0
    done = {path.stem for path in (out / "videos").iterdir()}
    assert done == {"a"}  # the second longest
    assert "share 2 of 2 is done, 2 videos not extracted yet" in capsys.readouterr().out
    assert (out / ".unfinished").exists()
    assert extract(clips, "--out", out, "--shard", "1/2") == 0
    assert "all videos are there" in capsys.readouterr().out
    assert extract(clips, "--out", out) == 0
    assert sorted((out / "split_test.txt").read_text().splitlines()) == sorted(SECONDS)


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2"])
def test_a_shard_that_is_none(clips, tmp_path, capsys, shard):
    assert extract(clips, "--out", tmp_path / "DATA", f"--shard={shard}") == 2
    assert "must be I/N" in capsys.readouterr().err and not (tmp_path / "DATA").exists()


def test_a_plan_leaves_a_complete_set_complete(clips, tmp_path, networks):
    out = tmp_path / "DATA"
    assert extract(clips, "--out", out) == 0
    write_clip(clips / "new.mp4", 1)
    networks.clear()
    assert extract(clips, "--out", out, "--plan") == 0
    assert not networks and not (out / ".unfinished").exists()


def test_a_video_that_has_become_unusable_leaves_the_set(clips, tmp_path):
    out = tmp_path / "DATA"
    assert extract(clips, "--out", out) == 0
    (clips / "a.mp4").write_bytes(b"no video any more")
    assert extract(clips, "--out", out) == 1
    assert sorted((out / "split_test.txt").read_text().splitlines()) == sorted(SECONDS.keys() - {"a"})


def test_labels_are_not_lost(clips, labelled, tmp_path, capsys):
    out = tmp_path / "DATA"
    assert extract(clips, "--out", out, "--labels", labelled) == 0
    before = (out / "gt.json").read_text()
    capsys.readouterr()
    assert extract(clips, "--out", out) == 2
    assert "is a set with labels; give --labels again" in capsys.readouterr().err
    assert (out / "gt.json").read_text() == before and not (out / ".unfinished").exists()


def test_a_plan_extracts_nothing(clips, tmp_path, networks, capsys):
    assert extract(clips, "--out", tmp_path / "DATA", "--plan") == 0
    assert not networks and "to do: 3 videos" in capsys.readouterr().out
    assert not (tmp_path / "DATA" / "features").exists()


LABELS = "video,label\na,run\nb c.mp4,run\ndéjà,walk\nfourth,walk\n"


@pytest.fixture
def labelled(clips):
    write_clip(clips / "fourth.mp4", 1)
    table = clips.parent / "labels.csv"
    table.write_text(LABELS)
    return table


def test_with_labels_it_is_a_set_to_train_on(clips, labelled, tmp_path, capsys):
    out = tmp_path / "DATA"
    write_clip(clips / "unnamed.mp4", 1)
    assert extract(clips, "--out", out, "--labels", labelled) == 0
    printed = capsys.readouterr().out
    assert f"train.sh --data_path {out}" in printed and "--modal rgb" in printed and "--fps" not in printed
    assert "left out: 1 video that" in printed and not list(out.rglob("unnamed*"))
    names = {split: (out / f"split_{split}.txt").read_text().splitlines() for split in ("train", "test")}
    assert len(names["train"]) == 3 and len(names["test"]) == 1 and "b c" in names["train"] + names["test"]
    for split, members in names.items():
        assert {path.stem for path in (out / "features" / split / "rgb").iterdir()} == set(members)
    report = check_data(out, resolve({"data_path": str(out), "modal": "rgb"}).data)
    assert report.exit_code < 2, report.text(entire=True)


def test_labels_come_later(clips, labelled, tmp_path, networks):
    """What is extracted stays; videos move to their splits, those without a label out of the set."""
    out = tmp_path / "DATA"
    write_clip(clips / "unnamed.mp4", 1)
    assert extract(clips, "--out", out) == 0
    networks.clear()
    assert extract(clips, "--out", out, "--labels", labelled) == 0
    assert not networks
    assert [path.name for path in (out / "unused" / "rgb").iterdir()] == ["unnamed.npy"]
    assert not (out / "features" / "test" / "rgb" / "unnamed.npy").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fifth,run", "line 6: no file of video 'fifth', there are"),
        ("A,run", "line 6: no file of video 'A', there is 'a.mp4': write the name so"),
        ("a.mp4,run", "line 6: 'a.mp4' is the file of 'a' above; write it once"),
    ],
)
def test_a_table_that_does_not_fit_the_files(clips, labelled, tmp_path, capsys, line, said):
    labelled.write_text(LABELS + line + "\n")
    assert extract(clips, "--out", tmp_path / "DATA", "--labels", labelled) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "DATA").exists(), "told before anything is extracted"


def test_a_labelled_video_that_is_broken_is_left_out(clips, labelled, tmp_path, capsys):
    (clips / "fifth.mp4").write_bytes(b"no video")
    labelled.write_text(LABELS + "fifth,walk\n")
    out = tmp_path / "DATA"
    assert extract(clips, "--out", out, "--labels", labelled) == 1
    assert "fifth" not in json.loads((out / "gt.json").read_text())["database"]
    assert "fifth.mp4" in capsys.readouterr().out


def test_places_that_can_not_be_used(clips, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("precious")
    (tmp_path / "empty").mkdir()
    for arguments, said in [
        ([clips, "--out", tmp_path / "file"], "file"),
        ([clips, "--out", tmp_path / "full"], "exists and is not a set of extracted features"),
        ([tmp_path / "empty", "--out", tmp_path / "DATA"], "holds no videos"),
        ([tmp_path / "absent", "--out", tmp_path / "DATA"], "no such file or folder"),
        ([clips, "--out", tmp_path / "DATA", "--skip_unusable"], "--skip_unusable: needs --labels"),
        ([clips, "--out", tmp_path / "DATA", "--rgb_weights", tmp_path / "no.pt"], "no.pt: no such file"),
        ([clips, "--out", tmp_path / "DATA", "--snippet_frames", 8], "--snippet_frames 8: must lie in"),
    ]:
        assert extract(*arguments) == 2, arguments
        error = capsys.readouterr().err
        assert said in error and len(error.splitlines()) == 1, error
    assert (tmp_path / "full" / "mine.txt").read_text() == "precious"


def test_a_video_inside_the_set_is_no_source(clips, tmp_path):
    out = clips / "DATA"
    assert extract(clips, "--out", out) == 0
    shutil.copy(clips / "a.mp4", out / "copy.mp4")
    assert extract(clips, "--out", out) == 0
    assert sorted(pathlib.Path(line).name for line in (out / "split_test.txt").read_text().splitlines()) == sorted(
        SECONDS
    )


@pytest.mark.parametrize("module", ["av", "cv2"])
@pytest.mark.parametrize("program", ["extract", "localize"])
def test_a_missing_package_is_one_line(clips, tmp_path, module, program):
    code = f"import sys; sys.modules['{module}'] = None; from video.{program} import main; sys.exit(main(sys.argv[1:]))"
    out = "--out" if program == "extract" else "--features"
    done = subprocess.run(
        [sys.executable, "-c", code, str(clips), out, str(tmp_path / "DATA")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and f"has no {module}; run scripts/extract.sh" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "DATA").exists()


def test_other_files_join_the_set(clips, tmp_path):
    """Without a table nothing says that the others should go."""
    out = tmp_path / "DATA"
    assert extract(clips / "a.mp4", clips / "b c.mp4", "--out", out) == 0
    assert extract(clips / "déjà.mp4", "--out", out) == 0
    assert sorted((out / "split_test.txt").read_text().splitlines()) == sorted(SECONDS)
    listed = [line.split(",")[0] for line in (out / "manifest.csv").read_text().splitlines()[1:]]
    assert listed == ["déjà", "a", "b c"], "the longest first"
    (clips / "a.mp4").unlink()
    assert extract(clips / "déjà.mp4", "--out", out) == 0
    assert [line.split(",")[0] for line in (out / "manifest.csv").read_text().splitlines()[1:]] == ["déjà", "b c"]


def test_a_complete_set_that_gets_more_videos_is_unfinished_until_it_has_them(clips, tmp_path, monkeypatch):
    """Whoever reads it meanwhile, or after the extraction was killed, is told, and what was complete stays."""
    out = tmp_path / "DATA"
    assert extract(clips / "a.mp4", "--out", out) == 0 and not (out / ".unfinished").exists()
    real, marked = FeatureSet.write, []

    def write(*arguments):
        marked.append((out / ".unfinished").exists())
        if len(marked) == 2:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(FeatureSet, "write", write)
    assert extract(clips, "--out", out) == 1 and marked == [True, True]
    assert (out / "split_test.txt").read_text() == "a\n" and len(features(out, "a")) == snippets(SECONDS["a"])
    with pytest.raises(InputError, match="is incomplete"):
        find_videos([out], DataOptions())
    monkeypatch.setattr(FeatureSet, "write", real)
    assert extract(clips, "--out", out) == 0 and not (out / ".unfinished").exists()
    assert sorted((out / "split_test.txt").read_text().splitlines()) == sorted(SECONDS)


def test_the_whole_and_its_shares_keep_out_of_each_others_way(clips, tmp_path, monkeypatch, capsys):
    out = tmp_path / "DATA"
    monkeypatch.setattr("video.extract.LOOKS", 2)
    with FolderLock(out / ".shards" / "1-of-2"):
        assert extract(clips, "--out", out) == 2
        assert "1-of-2" in capsys.readouterr().err
        assert extract(clips, "--out", out, "--shard", "1/2") == 2
        assert extract(clips, "--out", out, "--shard", "2/2") == 0
    with FolderLock(out):
        assert extract(clips, "--out", out, "--shard", "1/2") == 2
    assert (out / ".unfinished").exists() and extract(clips, "--out", out) == 0


def test_a_plan_settles_nothing(clips, tmp_path):
    out = tmp_path / "DATA"
    assert extract(clips, "--out", out, "--plan", "--fps", 12.5) == 0
    assert [path.name for path in out.iterdir()] == ["manifest.csv"]
    assert extract(clips, "--out", out) == 0


def test_a_name_that_is_no_text(clips, tmp_path):
    folder = pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/n\xff"))
    shutil.copytree(clips, folder)
    out = tmp_path / "DATA"
    assert extract(folder, "--out", out) == 0 and extract(folder, "--out", out) == 0
    assert sorted((out / "split_test.txt").read_text().splitlines()) == sorted(SECONDS)


@pytest.mark.parametrize(
    ("name", "value"),
    [("seconds", "1e999"), ("seconds", "-3"), ("snippets", "1e999"), ("snippets", "0"), ("fps", "0"), ("path", "[1]")],
)
def test_a_damaged_record_is_made_again(clips, tmp_path, networks, name, value):
    out = tmp_path / "DATA"
    assert extract(clips, "--out", out) == 0
    file = out / "videos" / "a.json"
    whole = file.read_text()
    damaged = re.sub(rf'"{name}": [^,\n]+', f'"{name}": {value}', whole)
    assert damaged != whole
    file.write_text(damaged)
    networks.clear()
    assert extract(clips, "--out", out) == 0
    assert sum(networks) == snippets(SECONDS["a"]) and file.read_text() == whole


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "x"])
def test_a_damaged_manifest_is_made_again(clips, tmp_path, seconds):
    out = tmp_path / "DATA"
    assert extract(clips, "--out", out, "--plan") == 0
    whole = (out / "manifest.csv").read_text()
    (out / "manifest.csv").write_text(whole.replace(",2.0,", f",{seconds},"))
    assert extract(clips, "--out", out) == 0
    assert (out / "manifest.csv").read_text() == whole


def test_a_file_of_the_same_size_that_was_written_later(clips, tmp_path, networks):
    out = tmp_path / "DATA"
    assert extract(clips, "--out", out) == 0
    os.utime(clips / "a.mp4", ns=(1, 1))
    networks.clear()
    assert extract(clips, "--out", out) == 0
    assert sum(networks) == snippets(SECONDS["a"])


def test_features_of_another_length_are_no_features(clips, tmp_path, networks):
    out = tmp_path / "DATA"
    assert extract(clips, "--out", out) == 0
    whole = features(out, "a")
    np.save(out / "features" / "test" / "rgb" / "a.npy", whole[:-1])
    networks.clear()
    assert extract(clips, "--out", out) == 0
    assert sum(networks) == len(whole) == len(features(out, "a"))


def test_a_training_video_that_has_changed(clips, labelled, tmp_path):
    out = tmp_path / "DATA"
    assert extract(clips, "--out", out, "--labels", labelled) == 0
    (name, *_) = (out / "split_train.txt").read_text().splitlines()
    write_clip(clips / f"{name}.mp4", 4, grey=10)
    assert extract(clips, "--out", out, "--labels", labelled) == 0
    assert len(features(out, name, "train")) == snippets(4)
    assert len(list(out.glob(f"features/*/rgb/{name}.npy"))) == 1


SETTINGS = Settings(
    fps=25.0,
    short_side=256,
    snippet_frames=16,
    snippet_stride=16,
    precision="float32",
    dtype="float16",
    flow="dis",
    flow_bound=20.0,
    rgb_weights="a" * 64,
    flow_weights="b" * 64,
)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Settings)])
def test_every_setting_is_held_to(tmp_path, name):
    FeatureSet(tmp_path / "DATA", SETTINGS, {}).claim()
    FeatureSet(tmp_path / "DATA", SETTINGS, {}).claim()
    other = dataclasses.replace(SETTINGS, **{name: "c" * 64 if name.endswith("weights") else 7})
    with pytest.raises(InputError, match=f"extracted with --{name} "):
        FeatureSet(tmp_path / "DATA", other, {}).claim()


def test_the_first_of_several_makes_the_folder(tmp_path):
    """What others have begun there is theirs, and the settings that are there first count."""
    (tmp_path / "DATA" / "videos").mkdir(parents=True)
    (tmp_path / "DATA" / "manifest.csv").write_text("")
    FeatureSet(tmp_path / "DATA", SETTINGS, {}).claim()
    before = (tmp_path / "DATA" / "metadata.json").read_bytes()
    write_new_json(tmp_path / "DATA" / "metadata.json", {"of": "another"})
    assert (tmp_path / "DATA" / "metadata.json").read_bytes() == before
    assert not list((tmp_path / "DATA").glob("*.tmp")) and not list((tmp_path / "DATA").glob(".*.tmp"))


def test_bytes_become_numbers_from_minus_one_to_one():
    seen = []

    def network(clips):
        seen.append(clips)
        return I3DOutput(features=clips, logits=clips)

    extractor = Extractor({"rgb": network}, VideoOptions(), choose_machine(RunOptions(device="cpu")))
    extractor._run(network, torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 1, 1, 1, 3))
    extractor._run(network, torch.tensor([-0.5, 1.0]).reshape(1, 1, 1, 1, 2))
    assert seen[0].shape == (1, 3, 1, 1, 1) and seen[0].flatten().tolist() == pytest.approx([-1, 1, -0.6])
    assert seen[1].flatten().tolist() == [-0.5, 1]


def test_settings_are_those_of_the_call():
    flags = {"fps": 10.0, "short_side": 240, "snippet_frames": 12, "snippet_stride": 4, "dtype": "float32"}
    flow = {"flow": "dis", "flow_bound": 7.0, "flow_weights": "file"}
    machine = choose_machine(RunOptions(device="cpu", precision="bf16"))
    weights = {stream: types.SimpleNamespace(sha256=f"of {stream}") for stream in ("rgb", "flow")}
    common = {**flags, "precision": "bf16", "rgb_weights": "of rgb"}
    both = settings(VIDEO_FLAGS.build({**flags, **flow}), weights, machine)
    assert both == Settings(**common, flow="dis", flow_bound=7.0, flow_weights="of flow")
    rgb = settings(VIDEO_FLAGS.build({**flags, **flow, "flow_weights": ""}), {"rgb": weights["rgb"]}, machine)
    assert rgb == Settings(**common, flow=None, flow_bound=None, flow_weights=None)


@pytest.mark.parametrize(("device", "seconds"), [("cpu", "53 s"), ("cuda", "50 s")])
def test_the_estimate_adds_what_shares_the_cores(clips, monkeypatch, device, seconds):
    """Two seconds of video are 50 frames, of a second each here, and 3 snippets."""
    monkeypatch.setattr("video.estimate._decoding", lambda entry, options: 1.0)
    machine = types.SimpleNamespace(device=torch.device(device), threads=1)
    extractor = types.SimpleNamespace(
        options=VideoOptions(), machine=machine, networks={"rgb": None}, seconds_per_snippet=lambda: 1.0
    )
    entry = Entry(source=Source.of(clips / "a.mp4"), seconds=2.0, width=64, height=48)
    assert f"to do: 1 video, 2 s of video, 3 snippets; about {seconds} (networks 3 s" in estimate([entry], extractor)
