"""What --recipe takes from the data: worked by hand, and in runs of the program."""

import json
import pathlib
import re

import numpy as np
import pytest
import torch
from support.disk import complaint
from support.ranks import run_ranks
from support.tiny import FEATURE_SIZE

import main
from command_line.flags import as_words
from data_tools.recipe import (
    KNOWN_SETS,
    KnownSet,
    SetProfile,
    class_threshold,
    evaluation_step,
    fitting_hidden_size,
    fitting_segments,
    like_a_known_set,
    profile_of,
    recipe_for,
    training_length,
    undecided,
)
from experiments.job import State, make_job, state_of
from formats import inspection
from formats.annotations import Instance, VideoAnnotation
from localizer import Localizer
from options import OptimisationOptions, parse_flags, resolve
from recipes import FROM_DATA, PRESETS, RECIPES
from run.checkpoint import load_checkpoint
from utils.errors import InputError


def profile(*, videos=475, length=48, classes=9, classes_per_video=1.0, seconds=0.64):
    return SetProfile(
        lengths=(length,) * videos,
        num_classes=classes,
        classes_per_video=classes_per_video,
        snippet_seconds=seconds,
        feature_size=1024,
        streams=("rgb", "flow"),
    )


# Rules


@pytest.mark.parametrize(
    ("lengths", "segments"),
    [((5,), 32), ((48,) * 8, 48), ((10,) * 9 + (1005,), 109), (range(1, 102), 91)],
)  # of ten, the 0.9 quantile lies 0.1 of the way from the ninth to the tenth
def test_t_is_the_length_of_the_longer_videos(lengths, segments):
    assert fitting_segments(list(lengths)) == segments


@pytest.mark.parametrize(
    ("classes", "channels", "why"),
    [
        *((1, 64, "H = 64, the least that is taken"), (7, 64, "H = 64, the least that is taken")),
        *((8, 64, "H = 64 fits the number of classes"), (11, 64, "H = 64 fits the number of classes")),
        *((12, 128, "H = 128 fits the number of classes"), (22, 128, "H = 128 fits the number of classes")),
        *((23, 256, "H = 256 fits the number of classes"), (45, 256, "H = 256 fits the number of classes")),
        *((46, 512, "H = 512 fits the number of classes"), (64, 512, "H = 512 fits the number of classes")),
        *((65, 512, "H = 512, the most that is taken"), (5_000, 512, "H = 512, the most that is taken")),
    ],
)
def test_more_classes_have_more_channels_up_to_the_published_ones(classes, channels, why):
    assert fitting_hidden_size(classes) == channels
    taken = recipe_for(profile(classes=classes, classes_per_video=min(classes, 2)), {"recipe": "stable"})
    assert taken.options({"recipe": "stable"}).model.hidden_size == channels
    assert why in taken.reasons
    typed = recipe_for(profile(classes=classes), {"recipe": "stable", "hidden_size": 96})
    assert "hidden_size" not in typed.values and not any("H = " in reason for reason in typed.reasons)


@pytest.mark.parametrize(
    ("videos", "batch", "drop_last", "steps"),
    [(475, 2, False, 238), (475, 2, True, 237), (1, 2, True, 0), (1, 2, False, 1), (6, 3, True, 2)],
)
def test_steps_of_an_epoch(videos, batch, drop_last, steps):
    assert OptimisationOptions(batch_size=batch, drop_last=drop_last).steps_per_epoch(videos) == steps


def test_a_small_set_is_trained_for_steps_a_large_one_for_epochs():
    assert training_length(238) == (5e-4, 17)  # 4000 / 238 = 16.8
    assert training_length(4) == (5e-4, 1000)
    assert training_length(5000) == (5e-4, 10)


@pytest.mark.parametrize(
    ("epoch", "total", "step"), [(238, 17 * 238, 238), (4, 4000, 80), (100, 50, 100), (10, 510, 20)]
)
def test_evaluations_are_of_whole_epochs_and_not_too_many(epoch, total, step):
    assert evaluation_step(epoch, total) == step
    assert step % epoch == 0 and total / step <= 50.0 * 1.02


@pytest.mark.parametrize(
    ("classes", "threshold"), [(1.0, 0.15), (1.5, 0.1), (1.2, 0.125), (7.0, 0.0214), (15.0, 0.01), (300.0, 0.0005)]
)
def test_a_class_of_many_in_a_video_needs_less_score(classes, threshold):
    assert class_threshold(classes) == threshold
    taken = recipe_for(profile(classes=300, classes_per_video=classes), {"recipe": "stable"})
    assert taken.values["class_th"] == threshold
    assert taken.options({"recipe": "stable"}).localization.class_th == threshold


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (1.0, "--class_th is 0.15"),
        (1.0004, "--class_th is 0.15"),
        (1.5, "--class_th is 0.1: 0.15, shared among the 1.5 classes of a video"),
        (300.0, "--class_th is 0.0005: 0.15, shared among the 300 classes of a video"),
    ],
)
def test_a_threshold_says_where_it_is_from(classes, said):
    assert said in recipe_for(profile(classes=300, classes_per_video=classes), {"recipe": "stable"}).reasons


def test_a_set_smaller_than_a_batch_has_numbers_too():
    """Of videos that --drop_last leaves none of; training then says so."""
    taken = recipe_for(profile(videos=3), {"recipe": "stable", "dataset": "activitynet1.3"})
    assert taken.values["detection_inf_step"] == 80 and taken.values["num_epochs"] == 4000


def test_stable_by_hand():
    taken = recipe_for(profile(), {"recipe": "stable"})
    constant = RECIPES["stable"]
    fitted = {"num_segments": 48, "hidden_size": 64, "lr": 5e-4}
    fitted |= {"num_epochs": 17, "detection_inf_step": 238, "class_th": 0.15}
    assert taken.name == "stable" and taken.values == {**fitted, **constant} and taken.fitted == fitted
    assert "T = 48" in str(taken) and "4,046 steps of 2 videos" in str(taken)
    options = taken.options({"recipe": "auto"})
    assert options.data.recipe == "stable" and options.optimisation.total_steps(238) == 4046


def test_the_page_says_every_number_of_stable():
    """And every flag whose value the data give."""
    page = (pathlib.Path(main.__file__).parent / "docs" / "recipe.md").read_text()
    _, table, _ = re.split(r"^## What `stable` changes$|^## What the parts are worth$", page, flags=re.MULTILINE)
    said = {name: f"{value:g}" if isinstance(value, float) else value for name, value in RECIPES["stable"].items()}
    wanted = [" ".join(as_words({name: value})) for name, value in said.items()] + [f"--{name}" for name in FROM_DATA]
    assert [words for words in wanted if not re.search(rf"{words}\b", table)] == []


@pytest.mark.parametrize(
    ("videos", "typed", "said"),
    [
        (475, {}, "evaluations at the ends of epochs"),
        (8, {}, "evaluations every 20 epochs"),  # of 1,000
        (475, {"batch_size": 1}, "10 epochs are 4,750 steps of 1 video"),
        (1, {}, "4000 epochs are 4,000 steps of 1 video"),
        (3, {"batch_size": 2, "select": "val"}, "4000 epochs are 4,000 steps of 2 videos"),
    ],
)
def test_reasons_hold_for_small_sets(videos, typed, said):
    assert said in recipe_for(profile(videos=videos), {"recipe": "stable", **typed}).reasons


def test_what_there_is_one_of_is_no_plural():
    assert (
        str(profile(videos=1, length=25, classes=1)) == "1 training video of 25 snippets of 0.64 s, 1 class, 1 a video"
    )
    assert "5 training videos of 1 snippet of 0.64 s, 9 classes" in str(profile(videos=5, length=1))


def test_no_colon_before_nothing():
    shown = str(recipe_for(profile(**LIKE_THUMOS), {"recipe": "auto"}))
    assert shown.startswith("recipe published\nwhy: 200 training videos")
    assert str(recipe_for(profile(**LIKE_ANET), {"recipe": "auto"})).startswith(
        "recipe published: --dataset activitynet1.3\n"
    )


def test_t_is_at_most_the_published_one():
    assert recipe_for(profile(length=5000), {"recipe": "stable"}).values["num_segments"] == 750


def test_published_takes_nothing():
    taken = recipe_for(profile(), {})
    assert taken.name == "published" and not taken.values and taken.options({}) == resolve({})


@pytest.mark.parametrize(
    "typed",
    [
        ["--num_segments", "64", "--lr", "0.001"],
        ["--num_epochs", "9"],
        ["--num_iters", "100"],
        ["--w_bg", "3", "--fuse_cas", "1"],
        ["--detection_inf_step", "7"],
    ],
)
@pytest.mark.parametrize("recipe", ["stable", "auto"])
def test_typed_flags_come_first(recipe, typed):
    flags = parse_flags(["--recipe", recipe, *typed])
    taken = recipe_for(profile(), flags)
    assert not taken.values.keys() & flags.keys()
    options = taken.options(flags)
    expected = resolve({**{n: v for n, v in taken.values.items() if v is not None}, **flags, "recipe": "stable"})
    assert options == expected
    if "num_iters" in flags:
        assert options.optimisation.num_epochs is None and options.optimisation.num_iters == 100


def test_epochs_take_the_place_of_a_presets_steps():
    flags = {"recipe": "stable", "dataset": "activitynet1.3"}
    optimisation = recipe_for(profile(videos=640), flags).options(flags).optimisation
    assert (optimisation.num_iters, optimisation.num_epochs) == (None, 200)  # 20 steps of 32 videos each


def test_held_out_videos_make_epochs_shorter():
    assert recipe_for(profile(), {"recipe": "stable", "select": "val"}).values["detection_inf_step"] == 190  # 475 - 95


# Profiles


def test_a_profile_looks_at_labels_and_lengths():
    def video(*labels, fps=None, start=0.0):
        instances = tuple(Instance(label=label, start=start, end=start + 1) for label in labels)
        return VideoAnnotation(subset="train", instances=instances, weak_labels=frozenset(labels[:1]), fps=fps)

    annotations = {"a": video("Dive", "Jump", fps=30), "b": video("Dive", fps=30), "c": video("Run"), "d": video("Sit")}
    lengths = {"a": 10, "b": 20, "c": 30}
    data = resolve({"snippet_frames": 16, "snippet_stride": 15, "modal": "rgb"}).data
    found = profile_of(lengths, annotations, data, feature_size=7)
    assert found == SetProfile(
        lengths=(10, 20, 30),
        num_classes=3,
        classes_per_video=4 / 3,
        snippet_seconds=0.5,  # 15 frames at 30 per second, the median
        feature_size=7,
        streams=("rgb",),
    )
    moved = {name: video(*sorted(entry.labels), fps=entry.fps, start=50.0) for name, entry in annotations.items()}
    assert profile_of(lengths, moved, data, feature_size=7) == found


# auto


@pytest.mark.parametrize("known", KNOWN_SETS, ids=lambda known: known.name)
def test_auto_knows_the_published_sets(known):
    own = profile(videos=known.videos, length=known.usual_length, classes=known.classes, seconds=known.snippet_seconds)
    assert like_a_known_set(own) is known
    taken = recipe_for(own, {"recipe": "auto"})
    options = taken.options({"recipe": "auto"})
    assert options == resolve({"dataset": known.dataset, "recipe": "published"})
    assert known.name in str(taken) and f"{known.videos:,} training videos" in str(taken)


LIKE_THUMOS = {"videos": 200, "length": 696, "classes": 20}
LIKE_ANET = {"videos": 10_024, "length": 344, "classes": 200}


@pytest.mark.parametrize(
    ("dataset", "like", "said"),
    [
        ("thumos14", LIKE_THUMOS, "are like those of THUMOS'14, which"),
        ("thumos14", LIKE_ANET, "unlike THUMOS'14, which the numbers of --dataset thumos14 are for"),
        ("activitynet1.3", LIKE_ANET, "are like those of ActivityNet-1.3, which"),
        ("activitynet1.2", LIKE_ANET, "are like those of ActivityNet-1.3, which"),  # whose numbers are the same
        (
            "activitynet1.3",
            LIKE_THUMOS,
            "unlike ActivityNet-1.2 and ActivityNet-1.3, which the numbers of --dataset activitynet1.3 are for",
        ),
        ("demo", LIKE_ANET, "--dataset demo has no published numbers"),
        (None, {}, "unlike THUMOS'14, ActivityNet-1.2 and ActivityNet-1.3, which the published numbers are for"),
    ],
)
def test_a_typed_preset_stays_and_its_numbers_are_for_its_own_set(dataset, like, said):
    flags = {"recipe": "auto"} | ({"dataset": dataset} if dataset else {})
    taken = recipe_for(profile(**like), flags)
    assert any(said in reason for reason in taken.reasons) and "dataset" not in taken.values
    assert taken.name == ("published" if said.startswith("are like") else "stable")
    options = taken.options(flags)
    assert options.data.dataset == (dataset or "thumos14")
    if taken.name == "published":
        assert options == resolve({"dataset": dataset})
    else:
        assert (
            options.data.num_segments == min(like.get("length", 48), 750)
            and options.actionness.pseudo_source == "classes"
        )


@pytest.mark.parametrize(
    ("changed", "like"),
    [
        ({"videos": 400}, True),
        ({"videos": 401}, False),
        ({"videos": 100}, True),
        ({"videos": 99}, False),
        ({"classes": 10}, True),
        ({"classes": 9}, False),
        ({"length": 348}, True),
        ({"length": 347}, False),
        ({"seconds": 1.28}, True),
        ({"seconds": 1.3}, False),
    ],
)
def test_a_set_is_like_another_within_a_factor_of_two(changed, like):
    thumos = {"videos": 200, "length": 696, "classes": 20}
    taken = recipe_for(profile(**{**thumos, **changed}), {"recipe": "auto"})
    assert taken.name == ("published" if like else "stable")
    assert "THUMOS'14" in str(taken)


# What a queue may compare with a run that is there


def test_what_the_data_decide_is_undecided_without_them():
    assert undecided({}) == undecided({"recipe": "published", "lr": 1}) == frozenset()
    assert undecided({"recipe": "stable", "lr": 1.0}) == {
        "num_segments",
        "hidden_size",
        "num_epochs",
        "num_iters",
        "detection_inf_step",
        "class_th",
    }
    auto = undecided({"recipe": "auto", "fuse_cas": 1.0, "dataset": "demo"})
    assert {"recipe", "fuse_rgb", "pseudo_source"} < auto and not {"fuse_cas", "dataset"} & auto
    assert {"dataset", "kernel_size"} < undecided({"recipe": "auto"})


# Runs

SMALL = (
    "--feature_size",
    str(FEATURE_SIZE),
    "--hidden_size",
    "8",
    "--device",
    "cpu",
    "--threads",
    "1",
    "--no-write_report",
)
# Of the tiny set: 7 videos, two in a step; the longest have 52 and 59 snippets, the 0.9 quantile lies 0.4 of the way.
FITTED = {"num_segments": 54, "lr": training_length(4)[0], "detection_inf_step": 4}


@pytest.fixture
def train(tiny, tmp_path, capsys):
    """train(*flags): a run of some epochs whose other numbers the data give: its folder, and what it printed."""

    def call(*flags, epochs=2, name="x"):
        fixed = ["--data_path", str(tiny.path), "--output_dir", str(tmp_path / "out"), "--exp_name", name, *SMALL]
        capsys.readouterr()
        code = main.main([*fixed, "--num_epochs", str(epochs), *flags])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return tmp_path / "out" / name, captured.out

    return call


@pytest.fixture
def no_fit(monkeypatch):
    """no_fit(): from now on, looking at the data for a recipe fails."""
    return lambda: monkeypatch.setattr("data_tools.recipe.inspect_set", None)


def saved_options(folder):
    return json.loads((folder / "options.json").read_text())


def results(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("recipe", ["auto", "stable"])
def test_a_run_takes_its_numbers_from_the_data_and_says_so(train, recipe):
    folder, out = train("--recipe", recipe)
    expected = {"recipe": "stable", **RECIPES["stable"], "num_epochs": 2, **FITTED}
    options = saved_options(folder)
    assert {name: options[name] for name in expected} == expected
    assert load_checkpoint(folder / "last.pt").options == load_checkpoint(folder / "best.pt").options == options
    first, why = out.splitlines()[:2]
    assert first.startswith("recipe stable: --num_segments 54 ") and "--pseudo_source classes" in first
    assert why.startswith("why: 7 training videos of ") and "3 classes" in why
    taken = results(folder)["recipe_taken"]
    assert taken["name"] == "stable" and taken["values"]["num_segments"] == 54
    assert "; ".join(taken["reasons"]) == why.removeprefix("why: ")
    assert results(folder)["options"] == options


def test_the_published_recipe_takes_nothing_and_looks_at_nothing(train, no_fit):
    no_fit()
    folder, out = train("--num_segments", "54", "--pseudo_extra", "0")
    assert "recipe published" not in out and "recipe_taken" not in results(folder)
    assert saved_options(folder)["recipe"] == "published"


@pytest.fixture
def inspected_with(monkeypatch):
    """The options of every inspection of a set's headers, in a list that grows."""
    seen = []
    inspect_set = inspection.inspect_set

    def counted(path, options, **more):
        seen.append(options)
        return inspect_set(path, options, **more)

    for module in ("data_tools.recipe", "dataset"):
        monkeypatch.setattr(f"{module}.inspect_set", counted)
    return seen


@pytest.mark.parametrize("recipe", ["published", "stable", "auto"])
def test_headers_are_inspected_once(train, inspected_with, recipe):
    train("--recipe", recipe, "--num_segments", "54", "--no_actionness", epochs=1)
    assert len(inspected_with) == 1


@pytest.mark.parametrize(
    ("preset", "modals"), [({"short_videos": "keep", "num_segments": 50}, ["all"]), ({"modal": "rgb"}, ["all", "rgb"])]
)
def test_headers_are_inspected_again_where_auto_changes_what_is_read(
    train, inspected_with, monkeypatch, preset, modals
):
    known = KnownSet(name="Tiny", dataset="activitynet1.3", videos=7, classes=3, usual_length=54)
    monkeypatch.setattr("data_tools.recipe.KNOWN_SETS", (known,))
    monkeypatch.setattr("options.PRESETS", {**PRESETS, "activitynet1.3": preset})
    folder, _ = train("--recipe", "auto", "--no_actionness", epochs=1)
    options = saved_options(folder)
    assert {name: options[name] for name in preset} == preset and options["dataset"] == "activitynet1.3"
    assert [options.modal for options in inspected_with] == modals


def test_the_same_numbers_typed_train_the_same_model(train):
    folder, _ = train("--recipe", "auto")
    other, _ = train(*as_words({**RECIPES["stable"], **FITTED}), name="typed")
    assert_equal_weights(folder, other)


def assert_equal_weights(folder, other):
    one, two = (load_checkpoint(path / "last.pt").model for path in (folder, other))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("typed", [[], ["--recipe", "auto"], ["--recipe", "stable"]])
def test_a_resumed_run_keeps_its_numbers_and_reasons(train, no_fit, typed):
    # A cosine and the rounds of self-training are shares of the length.
    flags = ("--recipe", "auto", "--keep_state", "--lr_schedule", "constant", "--w_self", "0")
    whole, _ = train(*flags, epochs=3, name="whole")
    folder, _ = train(*flags, epochs=2)
    before = results(folder)["recipe_taken"]
    no_fit()
    folder, _ = train("--resume", *typed, epochs=3)
    assert_equal_weights(folder, whole)
    assert saved_options(folder) == saved_options(whole) | {"exp_name": "x", "resume": True}
    assert results(folder)["recipe_taken"] == before and results(folder)["finished"]


def test_a_trained_model_keeps_its_numbers(train, no_fit, tiny, tmp_path, capsys):
    folder, _ = train("--recipe", "auto")
    no_fit()
    infer = ["--inference_only", "--recipe", "auto", "--exp_name", "x", "--data_path", str(tiny.path)]
    common = ["--output_dir", str(tmp_path / "out"), "--device", "cpu", "--no-write_report"]
    assert main.main([*infer, *common]) == 0, capsys.readouterr().err
    stated = results(folder / "inference")["options"]
    assert (stated["recipe"], stated["num_segments"], stated["pseudo_source"]) == ("stable", 54, "classes")
    assert results(folder / "inference")["average_mAP"] == results(folder)["best"]["average_mAP"]
    predict = ["--predict", str(tiny.path), "--model_file", str(folder / "best.pt"), "--out", str(tmp_path / "p")]
    assert main.main([*predict, *common]) == 0, capsys.readouterr().err
    assert results(tmp_path / "p")["options"]["recipe"] == "stable"
    model = Localizer.load(folder / "best.pt", device="cpu")
    assert model.options.data.recipe == "stable" and model.options.data.num_segments == 54


def test_the_report_says_which_recipe_and_why(train, no_fit, tmp_path, capsys):
    folder, _ = train("--recipe", "auto")
    no_fit()
    assert main.main(["--report", "x", "--output_dir", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    page = (folder / "report.html").read_text()
    assert "What differs from the preset thumos14 with --recipe stable" in page
    assert "stable: 7 training videos of 16 to 59 snippets" in page


def test_another_recipe_is_refused_for_what_is_trained(train, tmp_path, capsys):
    train("--recipe", "auto")
    for call in ("--resume", "--inference_only"):
        place = ["--exp_name", "x", "--output_dir", str(tmp_path / "out")]
        assert main.main([call, *place, "--recipe", "published"]) == 2
        assert "--recipe" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["no set", "no ground truth", "no feature file", "wrong width"])
def test_a_set_that_cannot_be_read_is_refused_as_ever(tiny, refused_with, damage):
    path = tiny.path / "nowhere" if damage == "no set" else tiny.path
    if damage == "no ground truth":
        tiny.gt.unlink()
    elif damage == "no feature file":
        tiny.feature("train", "rgb", "train_1").unlink()
    elif damage == "wrong width":
        np.save(tiny.feature("train", "rgb", "train_1"), np.ones((20, 5), np.float32))
    lines = {recipe: refused_with(path, "--recipe", recipe) for recipe in ("published", "stable", "auto")}
    assert len(set(lines.values())) == 1, lines


def test_numbers_that_do_not_fit_each_other_are_refused(tiny, refused_with):
    line = refused_with(
        tiny.path, "--recipe", "auto", "--num_segments", "16", "--pseudo_source", "actionness", "--pseudo_extra", "15"
    )
    assert "--num_segments 16" in line and "--pseudo_extra" in line


def test_t_is_judged_when_the_data_have_given_it(train):
    """Of the preset's 50 snippets a ratio of 0.019 would be none; of the set's 54 it is one."""
    flags = ("--dataset", "activitynet1.3", "--mil_ratio", "0.019", "--bg_ratio", "0.2", "--batch_size", "2")
    for recipe in ("stable", "auto"):
        folder, _ = train(*flags, "--recipe", recipe, epochs=1, name=recipe)
        assert saved_options(folder)["num_segments"] == 54


@pytest.mark.parametrize("typed", [[], ["--num_segments", "50"]])
@pytest.mark.parametrize("recipe", ["stable", "auto"])
def test_a_ratio_that_is_too_small_for_the_sets_t_is_refused(tiny, tmp_path, capsys, recipe, typed):
    flags = ["--recipe", recipe, "--mil_ratio", "0.018", *typed, "--output_dir", str(tmp_path / "out")]
    assert main.main(["--data_path", str(tiny.path), *SMALL, *flags]) == 2
    t = typed[-1] if typed else "54"
    assert f"--num_segments {t}: too small for --mil_ratio 0.018" in complaint(2, capsys.readouterr().err)


def test_a_typed_t_is_judged_without_the_data():
    with pytest.raises(InputError, match="--num_segments 16: too small for --mil_ratio"):
        resolve({"recipe": "stable", "num_segments": 16, "mil_ratio": 0.02})
    assert resolve({"recipe": "stable", "mil_ratio": 0.001}).fusion.mil_ratio == 0.001


def test_auto_is_judged_by_what_it_takes(train):
    """The published pseudo labels would be more than 16 snippets, and its network keeps ActivityNet's short videos."""
    folder, _ = train("--recipe", "auto", "--num_segments", "16", epochs=1)
    assert saved_options(folder)["num_segments"] == 16
    flags = {"recipe": "auto", "dataset": "activitynet1.3", "w_self": 1.0}
    assert recipe_for(profile(), flags).options(flags).data.short_videos == "stretch"
    assert make_job("x", folder, {**flags, "num_segments": 16, "mil_ratio": 0.1}).options.losses.w_self == 1.0


@pytest.mark.parametrize(
    "taken",
    [
        [],
        {"name": "stable"},
        {"name": 1, "values": {}, "reasons": []},
        {"name": "x", "values": [], "reasons": []},
        {"name": "x", "values": {"lr": [1]}, "reasons": []},
        {"name": "x", "values": {"a": "b" * 2000}, "reasons": []},
        {"name": "x", "values": {}, "reasons": "y"},
        {"name": "x", "values": {}, "reasons": ["y" * 2000]},
    ],
)
def test_a_checkpoint_whose_recipe_is_none_is_refused(train, taken, tmp_path, capsys):
    folder, _ = train("--recipe", "auto", epochs=1)
    content = torch.load(folder / "last.pt", weights_only=True)
    content["training"]["recipe_taken"] = taken
    torch.save(content, folder / "last.pt")
    place = ["--exp_name", "x", "--output_dir", str(tmp_path / "out")]
    assert main.main(["--resume", *place]) == 2
    assert str(folder / "last.pt") in capsys.readouterr().err


def test_ranks_get_the_numbers_of_rank_0(tiny, tmp_path):
    out = tmp_path / "out"
    flags = ["--data_path", str(tiny.path), "--output_dir", str(out), *SMALL, "--num_epochs", "2"]
    ends = run_ranks([*flags, "--recipe", "auto", "--exp_name", "auto"], tmp_path / "of auto")
    typed = as_words({**RECIPES["stable"], **FITTED})
    other = run_ranks([*flags, *typed, "--exp_name", "typed"], tmp_path / "of typed")
    assert {end.code for end in (*ends.values(), *other.values())} == {0}, ends
    assert saved_options(out / "auto")["recipe"] == "stable"
    assert_equal_weights(out / "auto", out / "typed")


def test_a_queue_knows_its_finished_runs_again(tiny, tmp_path):
    folder = tmp_path / "out"
    flags = {"data_path": str(tiny.path), "recipe": "auto", "feature_size": FEATURE_SIZE, "num_epochs": 1, "seed": 1}
    job = make_job("a-seed1", folder, {**flags, "hidden_size": 8, "write_report": False, "device": "cpu"})
    assert state_of(job) is State.NEW
    assert main.main(job.command(resume=False, threads=1)[2:]) == 0
    assert state_of(job) is State.DONE
    with pytest.raises(InputError, match="--lr"):
        state_of(make_job("a-seed1", folder, {**job.flags, "lr": 0.1}))
