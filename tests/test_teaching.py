"""What experiments.teaching says of a run: against plain loops, and without changing what it looks at."""

import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from support.disk import contents
from support.paths import ROOT
from support.queues import refused
from support.runs import assert_same
from support.tiny import CLASSES, TINY_FLAGS, load_tiny_set

from experiments import teaching
from experiments.teaching_measures import TaughtVideo, area_under_roc, snippet_truth, teaching_measures
from experiments.teaching_picture import PANELS, picture_spec
from experiments.teaching_rows import COLUMNS, FILE, MEASURES, read_all, write_rows
from formats.curve_file import read_points
from losses import pseudo_labels
from model import SAL
from options import resolve
from run.checkpoint import load_checkpoint


def made_video(generator, t, *, streams=("rgb", "flow")):
    """A video of t snippets and 3 classes, of which it shows two; actionness has ties."""
    action = generator.random((t, 3)) < 0.3
    action[:, 1] = False
    return TaughtVideo(
        action=action,
        labels=np.array([True, False, True]),
        pseudo_label=generator.random(t) < 0.4,
        weight=generator.random(t),
        actionness=generator.integers(0, 4, t) / 4,
        streams={stream: generator.random(t) for stream in streams},
        probability=generator.random((t, 3)),
    )


def pairs_won(scores, truth):
    """The area under the ROC curve, pair by pair."""
    pairs = [
        (a, b) for a, x in zip(scores, truth, strict=True) if x for b, y in zip(scores, truth, strict=True) if not y
    ]
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs) if pairs else math.nan


def in_loops(videos):
    """The measures that need no area, snippet by snippet."""
    total = dict.fromkeys(("all", "action", "h", "h_w", "h_w_right", "b_w", "b_w_right", "found"), 0.0)
    of_kind = {True: [], False: []}
    for video in videos:
        for t in range(len(video.weight)):
            action, h, w = bool(video.action[t].any()), bool(video.pseudo_label[t]), float(video.weight[t])
            total["all"] += 1
            total["action"] += action
            total["h"] += h
            total["h_w" if h else "b_w"] += w
            if h == action:
                total["h_w_right" if h else "b_w_right"] += w
            total["found"] += h and action
            of_kind[action].append((video.actionness[t], w))
    mean = {kind: [sum(column) / len(column) for column in zip(*pairs, strict=True)] for kind, pairs in of_kind.items()}
    return {
        "action_share": total["action"] / total["all"],
        "labelled_share": total["h"] / total["all"],
        "positive_precision": total["h_w_right"] / total["h_w"],
        "background_precision": total["b_w_right"] / total["b_w"],
        "action_recall": total["found"] / total["action"],
        "actionness_on_action": mean[True][0],
        "actionness_on_background": mean[False][0],
        "mask_on_action": mean[True][1],
        "mask_on_background": mean[False][1],
    }


def mean_of_known(values):
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known)


def test_measures_are_those_of_plain_loops():
    generator = np.random.default_rng(0)
    videos = [made_video(generator, t) for t in (9, 30, 1, 17)]
    measured = teaching_measures(videos)
    expected = in_loops(videos)
    expected["auc_fused"] = mean_of_known([pairs_won(v.actionness, v.action.any(1)) for v in videos])
    for stream in ("rgb", "flow"):
        expected[f"auc_{stream}"] = mean_of_known([pairs_won(v.streams[stream], v.action.any(1)) for v in videos])
    expected["auc_class"] = mean_of_known(
        [pairs_won(v.probability[:, c], v.action[:, c]) for v in videos for c in (0, 2)]
    )
    rgb, flow = (np.concatenate([v.streams[stream] for v in videos]) for stream in ("rgb", "flow"))
    expected["stream_correlation"] = ((rgb - rgb.mean()) * (flow - flow.mean())).mean() / (rgb.std() * flow.std())
    assert measured == pytest.approx(expected)


def test_measures_by_hand():
    video = TaughtVideo(
        action=np.array([[True], [True], [False], [False]]),
        labels=np.array([True]),
        pseudo_label=np.array([True, False, True, False]),
        weight=np.array([1.0, 0.5, 0.25, 1.0]),
        actionness=np.array([0.9, 0.3, 0.5, 0.1]),
        streams={"rgb": np.array([0.9, 0.3, 0.5, 0.1])},
        probability=np.ones((4, 1)),
    )
    measured = teaching_measures([video])
    assert measured["positive_precision"] == 1 / 1.25 and measured["background_precision"] == 1 / 1.5
    assert measured["action_recall"] == 0.5 and measured["labelled_share"] == 0.5
    assert measured["auc_fused"] == measured["auc_rgb"] == 3 / 4 and measured["auc_class"] == 0.5
    assert measured["actionness_on_action"] == pytest.approx(0.6) and measured["mask_on_background"] == 0.625
    assert math.isnan(measured["auc_flow"]) and math.isnan(measured["stream_correlation"])


def test_what_there_is_nothing_of_is_not_a_number():
    assert math.isnan(area_under_roc(np.array([0.1, 0.2]), np.array([True, True])))
    nothing = made_video(np.random.default_rng(1), 5)
    nothing.action[:] = nothing.pseudo_label[:] = False
    measured = teaching_measures([nothing])
    of_action = {"positive_precision", "action_recall", "actionness_on_action", "mask_on_action"}
    areas = {name for name in measured if name.startswith("auc")}
    assert {name for name, value in measured.items() if math.isnan(value)} == of_action | areas
    assert measured["background_precision"] == 1


@pytest.mark.parametrize("segments", [4, 8, 24])
def test_a_snippet_is_action_where_its_middle_is(tiny, segments):
    """A video of 8 snippets of 16 frames at 25 a second: their middles are at 0.32, 0.96, ... seconds."""
    for stream in ("rgb", "flow"):
        np.save(tiny.feature("train", stream, "train_0"), np.zeros((8, 6), np.float32))
    notes = [{"label": "Jump", "segment": [0.32, 0.96]}, {"label": "Dive", "segment": [3.0, 99.0]}]
    tiny.edit_gt(lambda database: database["train_0"].update(annotations=notes))
    options = resolve(
        {"num_segments": segments, "feature_size": 6, "pseudo_extra": 0, "mil_ratio": 0.5, "bg_ratio": 0.5}
    )
    data = load_tiny_set(tiny.path, num_segments=segments)
    truth = snippet_truth(data, data.train, options)["train_0"]
    of_snippets = np.zeros((8, 3), bool)
    of_snippets[0, CLASSES.index("Jump")] = True  # the second's middle is where the segment ends
    of_snippets[5:, CLASSES.index("Dive")] = True  # 3.52 seconds and later
    assert truth.tolist() == of_snippets[[i * 8 // segments for i in range(segments)]].tolist()


@pytest.fixture
def look_at(tmp_path, capsys):
    """look_at(data_path, *flags): experiments.teaching with the tiny flags, results in tmp_path/looked."""
    torch.set_num_threads(1)

    def call(data_path, *flags):
        out = tmp_path / "looked"
        words = ["--data_path", data_path, "--out", out, *TINY_FLAGS, *flags]
        code = teaching.main([str(word) for word in words])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return read_all([out]), captured.out

    return call


def test_looking_changes_no_run(tiny, run, look_at, tmp_path):
    rows, out = look_at(tiny.path, "--seeds", "3", "1", "--eval_from_epoch", "1")
    assert [(row["seed"], row["step"], row["epoch"]) for row in rows] == [
        (seed, 4 * epoch, epoch) for seed in (3, 1) for epoch in (1, 2, 3)
    ]
    assert {row["name"] for row in rows} == {"looked"} and len(out.partition("labelled")[2].splitlines()) == 8
    for seed in (3, 1):
        assert (
            run(tiny.path, "--exp_name", "plain", "--overwrite", "--seed", str(seed), "--eval_from_epoch", "1").code
            == 0
        )
        plain, looked = tmp_path / "out" / "plain", tmp_path / "looked" / f"looked-seed{seed}"
        history = json.loads((plain / "results.json").read_text())["history"]
        of_seed = [row for row in rows if row["seed"] == seed]
        for measure, name in (("step", "step"), ("average_mAP", "mAP"), ("video_accuracy", "video_accuracy")):
            assert [point[measure] for point in history] == [row[name] for row in of_seed]
        assert (plain / "detections_best.json").read_bytes() == (looked / "detections_best.json").read_bytes()
        one, other = load_checkpoint(plain / "last.pt"), load_checkpoint(looked / "last.pt")
        assert_same(one.model, other.model)
        for part in ("mask", "optimizer", "random"):
            assert_same(one.training[part], other.training[part], part)


@pytest.mark.parametrize(
    "flags", [(), ("--short_videos", "keep"), ("--no_mask", "--modal", "rgb"), ("--no_mixup", "--eval_workers", "1")]
)
def test_the_last_row_is_of_the_last_weights(tiny, look_at, tmp_path, flags):
    """Against the network of last.pt, video by video."""
    if "rgb" in flags:
        for video in tiny.path.glob("features/*/flow"):
            shutil.rmtree(video)
    rows, _ = look_at(tiny.path, "--seeds", "1", *flags)
    checkpoint = load_checkpoint(tmp_path / "looked" / "looked-seed1" / "last.pt")
    options = resolve({}, checkpoint.options)
    data = load_tiny_set(tiny.path, num_segments=24, short_videos=options.data.short_videos, modal=options.data.modal)
    model = SAL(options.model, num_classes=3, streams=options.data.streams, feature_size=6, ablation=options.ablation)
    model.load_state_dict(checkpoint.model)
    model.eval()
    truth, videos = snippet_truth(data, data.train, options), []
    for v, video in enumerate(data.train):
        t = min(24, video.num_snippets) if "keep" in flags else 24
        features = data.train.store.look(v, np.arange(t) * video.num_snippets // t)
        with torch.no_grad():
            output = model(torch.from_numpy(features).unsqueeze(0))
        below = (output.cas.softmax(2).amax(2)[0] - checkpoint.training["mask"]["mean"]).clamp_max(0)
        weight = torch.exp(-below.square() / (options.actionness.mask_var_factor * checkpoint.training["mask"]["var"]))
        videos.append(
            TaughtVideo(
                action=truth[video.video_id],
                labels=video.labels > 0,
                pseudo_label=pseudo_labels(output.actionness, output.cas, options.actionness)[0].numpy() > 0,
                weight=np.ones(t) if "--no_mask" in flags else weight.numpy(),
                actionness=output.actionness[0].numpy(),
                streams={name: values[0].numpy() for name, values in output.stream_actionness.items()},
                probability=output.cas.softmax(2)[0].numpy(),
            )
        )
    expected = teaching_measures(videos)
    assert {name: rows[-1][name] for name in expected} == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_loss_is_the_mean_since_the_row_before(tiny, look_at, tmp_path):
    rows, _ = look_at(tiny.path, "--seeds", "1", "--log_steps", "1", "--eval_from_epoch", "1")
    points = read_points(tmp_path / "looked" / "looked-seed1" / "curves.jsonl")
    losses = {step: value for step, curve, value in points if curve == "loss/total"}
    for row in rows:
        assert row["loss"] == pytest.approx(np.mean([losses[row["step"] - back] for back in range(4)]))


def test_without_test_segments_or_points_of_loss_there_are_gaps(tiny, look_at, tmp_path):
    tiny.edit_gt(lambda database: [video.update(annotations=[]) for name, video in database.items() if "test" in name])
    rows, out = look_at(tiny.path, "--log_steps", "100", "--eval_from_epoch", "3")
    assert len(rows) == 1 and math.isnan(rows[0]["mAP"]) and math.isnan(rows[0]["loss"])
    assert rows[0]["seed"] == resolve({}).run.seed and out.count(" -") >= 2
    assert teaching.main(["--plot", str(tmp_path / "looked"), "--out", str(tmp_path / "a.svg")]) == 0


def test_mistakes_are_told_before_the_first_run(tiny, tmp_path, capsys):
    def mistake(*words):
        return refused(capsys, teaching, "--data_path", tiny.path, "--out", tmp_path / "looked", *TINY_FLAGS, *words)

    before = contents(tmp_path)
    assert "--seeds 1: is given 2 times" in mistake("--seeds", "1", "1")
    assert "--no_actionness: leaves no teaching" in mistake("--no_actionness")
    assert "--name a/b: must be a plain name" in mistake("--name", "a/b")
    assert "no such folder" in mistake("--data_path", "nowhere")
    assert "unrecognized arguments: --seed" in mistake("--seed", "1")
    assert contents(tmp_path) == before
    (tmp_path / "looked" / "looked-seed1").mkdir(parents=True)
    assert "looked-seed1: is there already; give another --out" in mistake("--seeds", "1")
    (tmp_path / "looked" / FILE).touch()
    assert f"{FILE}: is there already" in mistake("--seeds", "2")


def test_training_videos_need_segments(tiny, tmp_path, capsys):
    weak = {"annotations": [], "labels": ["Dive"]}
    tiny.edit_gt(lambda database: [database[name].update(weak) for name in ("train_0", "train_3")])
    said = refused(capsys, teaching, "--data_path", tiny.path, "--out", tmp_path / "looked", *TINY_FLAGS)
    assert "2 training videos without segments in the ground truth, such as 'train_0'" in said
    assert not (tmp_path / "looked").exists()


def test_help_needs_no_package():
    file = ROOT / "experiments" / "teaching.py"
    done = subprocess.run([sys.executable, "-S", file, "--help"], capture_output=True, text=True, cwd=ROOT.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--plot DIR" in done.stdout and "--pseudo_extra" in done.stdout and "--exp_name" not in done.stdout


# Rows and their picture


def made_rows(name="base", seeds=(1, 2), steps=(10, 20, 30)):
    generator = np.random.default_rng(0)
    return [
        {"name": name, "seed": seed, "step": step, **{measure: float(generator.random()) for measure in MEASURES}}
        | {"epoch": step / 10}
        for seed in seeds
        for step in steps
    ]


def test_rows_come_back_to_the_last_digit(tmp_path):
    rows = made_rows(name='a, "b"')
    rows[0]["auc_flow"] = math.nan
    write_rows(tmp_path / FILE, rows)
    (back, *others), (first, *rest) = read_all([tmp_path]), rows
    assert others == rest and math.isnan(back.pop("auc_flow")) and math.isnan(first.pop("auc_flow")) and back == first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file; name a folder that experiments.teaching has written"),
        (b"", "has no rows of a CSV file"),
        (b"\xff\xfe\n1", "has no rows of a CSV file"),
        (b"name,seed\nx,1\n", "row 1: has no step"),
        (f"{','.join(COLUMNS)}\nx,one,10{',1' * len(MEASURES)}\n".encode(), "row 1: seed is 'one', not a number"),
        (f"{','.join(COLUMNS)}\nx,1,10{',1' * (len(MEASURES) - 1)}\n".encode(), "row 1: has no video_accuracy"),
        (f"{','.join(COLUMNS)}\nx,1,10{',inf' * len(MEASURES)}\n".encode(), "row 1: epoch is 'inf', which can't be"),
    ],
)
def test_other_files_are_refused(tmp_path, capsys, text, said):
    if text is not None:
        (tmp_path / FILE).write_bytes(text)
    before = contents(tmp_path)
    assert said in refused(capsys, teaching, "--plot", tmp_path, "--out", tmp_path / "a.svg")
    assert contents(tmp_path) == before


def test_mistakes_of_a_picture(tmp_path, capsys):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / FILE, made_rows())
    one, two, out = tmp_path / "one", tmp_path / "two", tmp_path / "a.svg"
    assert "calls its runs 'base', as " in refused(capsys, teaching, "--plot", one, two, "--out", out)
    assert "pictures are png or svg" in refused(capsys, teaching, "--plot", one, "--out", tmp_path / "a.pdf")
    assert "--plot and --lr contradict" in refused(capsys, teaching, "--plot", one, "--out", out, "--lr", "1")
    assert "/dev/null: a device, not a file" in refused(capsys, teaching, "--plot", "/dev/null", "--out", out)
    assert "required: --out" in refused(capsys, teaching, "--plot", one)


def test_the_picture_shows_every_name_and_panel(tmp_path, capsys):
    pytest.importorskip("vl_convert")
    folders = []
    for name in ("published", "toString"):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        write_rows(folders[-1] / FILE, made_rows(name))
    assert teaching.main(["--plot", *map(str, folders), "--out", str(tmp_path / "a.svg")]) == 0
    drawn = (tmp_path / "a.svg").read_text()
    words = ["published", "toString", "epoch", "chance", *(panel.title for panel in PANELS)]
    assert [word for word in words if f">{word}<" not in drawn] == []
    assert teaching.main(["--plot", str(folders[0]), "--out", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_thick_lines_are_means_over_all_seeds():
    rows = made_rows(seeds=(1, 2), steps=(10, 20))[:-1]  # the second seed has not come to step 20
    points = picture_spec(rows)["vconcat"][0]["hconcat"][0]["data"]["values"]
    thick = [(point["epoch"], point["value"]) for point in points if point["kind"] == "mean"]
    assert thick == [(1.0, pytest.approx(50 * (rows[0]["mAP"] + rows[2]["mAP"]), rel=1e-3))]
    assert [(point["seed"], point["epoch"]) for point in points if point["kind"] == "seed"] == [
        (1, 1.0),
        (1, 2.0),
        (2, 1.0),
    ]


def dots_of(rows, panel=0):
    """[(kind, seed, epoch, what)] of a panel's points that are drawn as such."""
    layers = picture_spec(rows)["vconcat"][panel]["hconcat"][0]["layer"]
    points = [p for layer in layers if layer["mark"]["type"] == "point" for p in layer["data"]["values"]]
    return sorted((point["kind"], point["seed"], point["epoch"], point["called"]) for point in points)


def test_a_single_evaluation_is_drawn_as_a_point():
    assert dots_of(made_rows(seeds=(1,), steps=(20,))) == [("mean", -1, 2, "mAP")]
    assert dots_of(made_rows(seeds=(1, 2), steps=(20,))) == [
        ("mean", -1, 2, "mAP"),
        ("seed", 1, 2, "mAP"),
        ("seed", 2, 2, "mAP"),
    ]
    assert dots_of(made_rows(seeds=(1, 2), steps=(10, 20))[:-1]) == [("mean", -1, 1, "mAP"), ("seed", 2, 1, "mAP")]
    assert dots_of(made_rows()) == []


def test_a_value_between_unknown_ones_is_drawn_as_a_point():
    rows = made_rows(seeds=(1,), steps=(10, 20, 30, 40))
    rows[1]["loss"] = rows[3]["loss"] = math.nan
    assert dots_of(rows, panel=1) == [("mean", -1, 1, "loss"), ("mean", -1, 3, "loss")]
    rows[0]["loss"] = math.nan
    assert dots_of(rows, panel=1) == [("mean", -1, 3, "loss")]


def test_points_stay_within_their_panel():
    """Lines are cut at its edge; a point there would lose half of itself."""
    (row,) = made_rows(seeds=(1,), steps=(20,))
    row |= {"auc_fused": 0.3, "auc_rgb": 0.29, "auc_flow": math.nan, "auc_class": 1.0}
    assert dots_of([row], panel=3) == [("mean", -1, 2, "actionness"), ("mean", -1, 2, "class probability")]


def test_points_are_in_the_picture_of_a_single_evaluation(tmp_path):
    pytest.importorskip("vl_convert")
    rows = made_rows(seeds=(1,), steps=(20,))
    write_rows(tmp_path / FILE, rows)
    assert teaching.main(["--plot", str(tmp_path), "--out", str(tmp_path / "a.svg")]) == 0
    expected = sum(len(dots_of(rows, panel)) for panel in range(len(PANELS)))
    assert (tmp_path / "a.svg").read_text().count('aria-roledescription="point"') == expected > len(PANELS)


def test_dashed_lines_stand_at_the_share_of_action_and_at_chance():
    specs = [panel["hconcat"][0] for panel in picture_spec(made_rows())["vconcat"]]
    points = [point for spec in specs for point in spec["data"]["values"]]
    share = 100 * np.mean([row["action_share"] for row in made_rows()])
    assert [p["value"] for p in points if p["called"] == "share of action"] == [pytest.approx(share, rel=1e-3)] * 2
    assert [(p["epoch"], p["value"]) for p in points if p["called"] == "chance"] == [(0, 50), (3, 50)]
