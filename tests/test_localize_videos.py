"""From video files to their actions, by the command. The networks of extraction are stand-ins that see how bright a clip is."""

import json
import shutil

import numpy as np
import pytest
import torch
from support.disk import contents
from support.paths import SHARED
from support.videos import write_video

import main as program
from formats.timelines import read_timelines
from model import SAL
from options import ModelOptions
from report.reading import read_run
from run.checkpoint import Checkpoint, save_checkpoint
from video.extract import main as extract
from video.i3d import FEATURES, I3DOutput
from video.kinetics import KINETICS_400
from video.localize import main
from video.preview import can_encode, plays
from video.recognise import visible_classes
from video.weights import LoadedI3D

pytest.importorskip("vl_convert", reason="reports need vl-convert-python: pip install -r requirements-report.txt")

DARK, BRIGHT = "abseiling", "arm wrestling"  # what the stand-in sees


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """A working folder with a folder `clips` of two videos; here(*arguments) runs the command."""
    monkeypatch.chdir(tmp_path)

    class Brightness:
        calls = 0

        def __init__(self, network, *, device, dtype):
            pass

        def __call__(self, clips):
            Brightness.calls += len(clips)
            mean = clips.mean((1, 2, 3, 4))
            logits = torch.zeros(len(clips), len(KINETICS_400))
            logits[:, KINETICS_400.index(DARK)] = -20 * mean
            logits[:, KINETICS_400.index(BRIGHT)] = 20 * mean
            return I3DOutput(features=mean[:, None] * torch.linspace(0, 1, FEATURES), logits=logits)

    def loaded(stream, path):
        return LoadedI3D(
            network=None, stream=stream, path=path, source="a stand-in", sha256="0" * 64, classes=KINETICS_400
        )

    monkeypatch.setattr("video.extraction.load_i3d", loaded)
    monkeypatch.setattr("video.extraction.FusedI3D", Brightness)
    monkeypatch.setattr("video.pipeline.Extractor.seconds_per_snippet", lambda self: 0.01)
    monkeypatch.setattr(
        "report.making.in_worker", lambda function, job: function(job)
    )  # a process takes seconds to start
    write_video(tmp_path / "clips" / "both sides.mp4", [grey(30)] * 80 + [grey(225)] * 80)
    write_video(tmp_path / "clips" / "dark.avi", [grey(30)] * 40)

    class Here:
        path, network = tmp_path, Brightness

        def __call__(self, *arguments):
            capsys.readouterr()
            code = main([*map(str, arguments), "--device", "cpu"])
            captured = capsys.readouterr()
            return code, captured.out, captured.err

        def out(self, *arguments):
            code, out, err = self(*arguments)
            assert code == 0, err
            return out

        def refused(self, *arguments):
            before = contents(tmp_path)
            code, _, err = self(*arguments)
            (line,) = [line for line in err.splitlines() if line.startswith("video.localize: error: ")]
            assert code == 2 and contents(tmp_path) == before
            return line

        def results(self, folder="predictions/clips"):
            return json.loads((tmp_path / folder / "results.json").read_text())

        def detections(self, folder="predictions/clips"):
            return json.loads((tmp_path / folder / "detections.json").read_text())["results"]

    return Here()


def grey(brightness):
    return np.full((48, 64, 3), brightness, np.uint8)


def write_model(path, *, modal="rgb", feature_size=FEATURES, **options):
    """A checkpoint of an untrained network, which takes features of I3D."""
    streams = ("rgb", "flow") if modal == "all" else (modal,)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SAL(ModelOptions(hidden_size=8), num_classes=2, streams=streams, feature_size=feature_size)
    saved = {"num_segments": 24, "hidden_size": 8, "pseudo_extra": 2, "class_th": 0.0, "modal": modal}
    saved |= {"feature_size": feature_size, **options}
    save_checkpoint(path, Checkpoint(model=model.state_dict(), options=saved, classes=("run", "jump")))
    return path


def test_a_folder_of_videos_without_a_model(here):
    """The first 3.2 s of one video are dark, the rest is bright; the other is dark."""
    out = here.out("clips")
    assert "not SAL: nothing was trained to find when" in out and "report: predictions/clips/report.html" in out
    found = here.detections()
    assert {d["label"] for d in found["dark"]} == {DARK}
    (dark,) = [d for d in found["both sides"] if d["label"] == DARK]
    (bright,) = [d for d in found["both sides"] if d["label"] == BRIGHT]
    assert dark["segment"] == pytest.approx([0, 3.2], abs=0.64) and bright["segment"] == pytest.approx(
        [3.2, 6.4], abs=0.64
    )
    assert "both sides (6.4 s): 2 detections, best: " in out
    files = {path.name for path in (here.path / "predictions" / "clips").iterdir()}
    both = {f"{name}.{ending}" for name in found for ending in ("vtt", "png")}
    kept = {"detections.json", "detections.csv", "results.json", "timelines.npz", "report.html"}
    assert files - {f"{name}.mp4" for name in found} == kept | both
    assert (here.path / "predictions/clips/both sides.png").read_bytes().startswith(b"\x89PNG")
    subtitles = (here.path / "predictions/clips/both sides.vtt").read_text()
    assert subtitles.startswith("WEBVTT") and DARK in subtitles and BRIGHT in subtitles


def test_results_say_what_they_are(here):
    here.out("clips", "--most_classes", 1, "--out", "x")
    results = here.results("x")
    assert results["method"].startswith("A 400-class recogniser (I3D, Kinetics-400) slid over the video, not SAL")
    assert "at most 1 of a video" in results["extraction"]["classes looked for"]
    assert results["videos"]["dark"]["file"] == str(here.path / "clips" / "dark.avi")
    page = (here.path / "x" / "report.html").read_text()
    assert results["method"].split(":")[0] in page and "mAP" not in page.split('<script type="application/json"')[0]
    assert {d["label"] for d in here.detections("x")["both sides"]} <= {DARK, BRIGHT}
    run = read_run(here.path / "x")
    assert run.is_prediction and not run.is_inference and not run.notes
    assert read_timelines(here.path / "x" / "timelines.npz").sequences[0].parts == ()


def test_features_are_extracted_once(here):
    here.out("clips", "--no-write_report")
    calls = here.network.calls
    assert calls == 160 // 16 + 40 // 16
    assert "results in predictions/clips-2" in here.out("clips", "--no-write_report")
    here.out("clips/dark.avi", "--features", "features/clips", "--no-write_report")
    assert here.network.calls == calls
    assert set(here.detections("predictions/dark")) == {"dark"}


def test_without_pictures_and_copies(here):
    here.out("clips", "--no-write_report", "--top", 1, "--out", "x")
    assert {path.suffix for path in (here.path / "x").iterdir()} == {".json", ".csv", ".vtt", ".npz"}
    assert [len(found) for found in here.detections("x").values()] == [1, 1]


def test_a_bad_video_is_skipped_and_listed_at_the_end(here):
    (here.path / "clips" / "text.mp4").write_text("not a video")
    code, out, err = here("clips", "--no-write_report")
    assert code == 1 and not err and set(here.detections()) == {"both sides", "dark"}
    last, listed = out.splitlines()[-2:]
    assert last == "1 file skipped:" and "clips/text.mp4: not a video" in listed


def test_only_bad_videos(here):
    (here.path / "bad.mp4").write_text("not a video")
    code, _, err = here("bad.mp4")
    assert code == 2 and "bad.mp4: not a video" in err and len(err.splitlines()) == 1
    assert not (here.path / "predictions").exists() and not (here.path / "features").exists()


def test_a_model_finds_the_same_as_predict_on_the_features(here, capsys):
    model = write_model(here.path / "best.pt")
    out = here.out("clips", "--model_file", model, "--out", "x")
    assert "best.pt: 2 classes, on cpu" in out and "nothing states how the features" in out
    place = ["--model_file", str(model), "--device", "cpu", "--no-write_report"]
    assert program.main(["--predict", "features/clips", "--out", "y", *place]) == 0
    assert here.detections("x") == here.detections("y") and here.detections("x")["dark"]
    results = here.results("x")
    assert results["model_file"] == str(model) and results["extraction"]["rgb weights"] == "a stand-in"
    timelines = read_timelines(here.path / "x" / "timelines.npz")
    assert timelines.sequences[0].parts == ("combined", "actionness", "pseudo_label")
    assert timelines.seconds.tolist() == [6.4, 1.6]
    assert (here.path / "x" / "both sides.png").exists() and (here.path / "x" / "dark.vtt").exists()


def test_snippets_are_those_that_the_model_was_trained_on(here):
    model = write_model(here.path / "best.pt", snippet_stride=8, fps=12.5)
    here.out("clips", "--model_file", model, "--no-write_report")
    settings = json.loads((here.path / "features/clips/metadata.json").read_text())["settings"]
    assert (settings["snippet_stride"], settings["fps"]) == (8, 12.5)
    assert here.results()["videos"]["dark"] == {"seconds": 1.6, "fps": 12.5, "file": str(here.path / "clips/dark.avi")}
    line = here.refused("clips", "--model_file", model, "--snippet_stride", 16, "--out", "x")
    assert "--snippet_stride 16" in line and "was trained with 8; leave it out" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"modal": "all"}, "needs features of rgb and flow: give --flow_weights FILE"),
        ({"modal": "flow"}, "needs features of flow: give --flow_weights FILE"),
        ({"feature_size": 12}, "takes 12 channels, and I3D gives 1024"),
        ({"snippet_frames": 8}, "snippets that can't be extracted: --snippet_frames 8: must lie in"),
    ],
)
def test_a_model_that_needs_other_features(here, options, said):
    model = write_model(here.path / "best.pt", **options)
    assert said in here.refused("clips", "--model_file", model)


def test_what_is_known_of_the_features_trained_on(here):
    """The features of a first call stand for the set that the model was trained on."""
    here.out("clips", "--no-write_report")
    model = write_model(here.path / "best.pt", data_path=str(here.path / "features" / "clips"))
    assert "features: extracted as those that" in here.out("clips", "--model_file", model, "--no-write_report")
    shutil.copytree(here.path / "features" / "clips", here.path / "set")
    file = here.path / "set" / "metadata.json"
    file.write_text(file.read_text().replace('"short_side": 256', '"short_side": 300'))
    write_model(model, data_path=str(here.path / "set"))
    out = here.out("clips", "--model_file", model, "--no-write_report")
    assert "warning" in out and "short_side 300, here 256" in out
    file.write_text("[]")
    assert "nothing states how" in here.out("clips", "--model_file", model, "--no-write_report")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.mp4"], "nowhere.mp4: no such file or folder"),
        (["clips", "--classes", "names.txt"], "--classes: names the classes of --model_file; give that too"),
        (["clips", "--most_classes", "0"], "--most_classes 0: must lie in"),
        (["clips", "--class_share", "2"], "--class_share 2"),
        (["clips", "--fps", "0"], "--fps 0"),
        (["clips", "--model_file", "none.pt"], "none.pt"),
        (["clips", "--out", "clips"], "--out clips: exists, and nothing is overwritten"),
        (["clips", "--modell_file", "x"], "unrecognized arguments: --modell_file; did you mean --model_file?"),
        ([], "the following arguments are required"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_done(here, arguments, said):
    assert said in here.refused(*arguments)


def test_a_set_with_labels_is_used_and_stays_as_it_is(here):
    (here.path / "labels.csv").write_text("video,label\nboth sides,run\ndark,run\n")
    arguments = ["clips", "--out", "set", "--labels", "labels.csv", "--device", "cpu"]
    assert extract(arguments) == 0
    before, calls = contents(here.path / "set"), here.network.calls
    here.out("clips", "--features", "set", "--no-write_report")
    assert here.network.calls == calls and contents(here.path / "set") == before
    write_video(here.path / "clips" / "new.avi", [grey(30)] * 40)
    code, _, err = here("clips", "--features", "set")
    assert (
        code == 2 and "set: is a set with labels, which stays as it is, and lacks 1 video; name another folder" in err
    )
    assert {name: data for name, data in contents(here.path / "set").items() if "manifest" not in str(name)} == {
        name: data for name, data in before.items() if "manifest" not in str(name)
    }


def test_features_of_other_settings_are_not_mixed(here):
    here.out("clips", "--no-write_report")
    line = here.refused("clips", "--snippet_stride", 8)
    assert "--snippet_stride 16, this call has 8" in line and "another --features" in line


def test_what_browsers_do_not_play_is_copied(here):
    if not can_encode():
        pytest.skip("this FFmpeg has no encoder for H.264")
    here.out("clips", "--out", "x")
    copies = {path.stem for path in (here.path / "x").glob("*.mp4")}
    assert copies == {"both sides", "dark"}  # both are MPEG-4 part 2
    assert all(plays(here.path / "x" / f"{name}.mp4") for name in copies)
    content = (here.path / "x" / "report.html").read_text()
    assert '"media":{"both sides":"both%20sides.mp4","dark":"dark.mp4"}' in content
    (here.path / "x" / "dark.mp4").unlink()
    assert program.main(["--report", "x"]) == 0
    assert '"dark":"../clips/dark.avi"' in (here.path / "x" / "report.html").read_text()


def test_a_picture_of_one_video_can_be_drawn_later(here):
    here.out("clips", "--no-write_report", "--out", "x")
    arguments = ["--plot", "both sides", "--output_dir", ".", "--exp_name", "x", "--out", "figure.svg"]
    assert program.main(arguments) == 0
    drawn = (here.path / "figure.svg").read_text()
    assert BRIGHT in drawn and "class probability" in drawn and "actionness" not in drawn


def test_a_real_clip_with_the_real_network(tmp_path, monkeypatch, capsys):
    clip = SHARED / "data" / "video" / "v_BenchPress_g01_c02.avi"
    if not clip.exists():
        pytest.skip("needs ../shared/data/video")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("video.pipeline.Extractor.seconds_per_snippet", lambda self: 0.5)
    assert main([str(clip), "--no-write_report", "--threads", "1"]) == 0
    (found,) = json.loads((tmp_path / "predictions" / clip.stem / "detections.json").read_text())["results"].values()
    assert {d["label"] for d in found} == {"bench pressing"}
    assert found[0]["segment"] == pytest.approx([0, 7.04], abs=0.7) and found[0]["score"] > 1


def test_copies_in_results_are_no_videos(here):
    """The working folder may be the one of the videos."""
    here.out("clips", "--no-write_report", "--features", "f")
    shutil.copy(here.path / "clips" / "dark.avi", here.path / "predictions" / "clips" / "dark.avi")
    here.out(".", "--no-write_report", "--features", "f", "--out", "again")
    assert set(here.detections("again")) == {"both sides", "dark"}


def test_a_model_gets_the_frame_rate_that_its_set_was_extracted_at(here):
    (here.path / "labels.csv").write_text("video,label\nboth sides,run\ndark,run\n")
    assert extract(["clips", "--out", "set", "--labels", "labels.csv", "--device", "cpu", "--fps", "5"]) == 0
    model = write_model(here.path / "best.pt", data_path=str(here.path / "set"))
    out = here.out("clips", "--model_file", model, "--no-write_report")
    assert "features: extracted as those that" in out
    assert json.loads((here.path / "features" / "clips" / "metadata.json").read_text())["settings"]["fps"] == 5
    here.out("clips", "--model_file", model, "--no-write_report", "--features", "set")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--most_classes", 3, "--model_file", "best.pt"], "--most_classes: is for calls without --model_file"),
        (["--class_share", 0.5, "--model_file", "best.pt"], "--class_share: is for calls without --model_file"),
        (["--features", "clips/dark.avi"], "--features clips/dark.avi: not a folder"),
        (["--out", "x", "--features", "x"], "--out x: is not apart from --features x"),
        (["--out", "x/y", "--features", "x"], "--out x/y: is not apart from --features x"),
    ],
)
def test_flags_that_do_not_go_together(here, arguments, said):
    write_model(here.path / "best.pt")
    assert said in here.refused("clips", *arguments)


def test_weights_of_other_classes_are_told_before_the_work(here, monkeypatch):
    def loaded(stream, path):
        return LoadedI3D(network=None, stream=stream, path=path, source="", sha256="1" * 64, classes=None)

    monkeypatch.setattr("video.extraction.load_i3d", loaded)
    assert "its classes are not those of Kinetics-400" in here.refused("clips", "--rgb_weights", "charades.pt")


def test_a_class_that_is_nowhere_likely_is_not_shown():
    """Proposals begin at the lowest threshold: below it nothing could be found."""
    probability = np.array([[0.05, 0.5, 0.02], [0.3, 0.2, 0.04]], np.float32)
    chosen = np.array([0, 1, 2])
    assert visible_classes(probability, probability.mean(0), chosen, 0.1).tolist() == [0, 1]
    assert visible_classes(probability, probability.mean(0), chosen, 0.9).tolist() == [1], "the best one at least"
