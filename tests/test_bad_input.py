"""A user's mistakes: exit code 2, one line on stderr that names the thing, and nothing written or changed on disk."""

import errno
import functools
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.disk import Exploit, complaint, contents
from support.networks import build_model
from support.paths import ROOT
from support.tiny import CLASSES, FEATURE_SIZE, TINY_FLAGS

import main
from formats.feature_files import FeatureFiles
from formats.result_file import write_detections
from options import as_plain, parse_flags, resolve
from run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, to_published
from utils.atomic import write_text
from utils.errors import InputError
from utils.segments import Segments

# A warning would be a second line on stderr, but pytest takes warnings aside.
pytestmark = [pytest.mark.filterwarnings("error::UserWarning"), pytest.mark.filterwarnings("error::RuntimeWarning")]


@pytest.fixture
def refused(tiny, refused_with):
    """refused(*flags): the line main.py complains with about the tiny set."""
    return functools.partial(refused_with, tiny.path)


def tiny_checkpoint(path, *flags, classes=CLASSES, training=None):
    """A checkpoint as training on the tiny set leaves it, without the training; returns its content."""
    options = resolve(parse_flags([*TINY_FLAGS, *flags]))
    model = build_model(options, len(classes))
    checkpoint = Checkpoint(
        model=model.state_dict(), options=as_plain(options), classes=classes, training=training or {}
    )
    save_checkpoint(path, checkpoint)
    return checkpoint


# The data set's folder and files


def test_data_path_not_given(capsys):
    code = main.main(TINY_FLAGS)
    assert "--data_path" in complaint(code, capsys.readouterr().err)


def test_data_path_does_not_exist(refused, tmp_path):
    assert f"--data_path {tmp_path / 'nowhere'}" in refused("--data_path", str(tmp_path / "nowhere"))


def test_data_path_is_a_file(refused, tiny):
    assert f"--data_path {tiny.gt}" in refused("--data_path", str(tiny.gt))


@pytest.mark.parametrize(
    ("name", "inference"),
    [
        ("gt.json", False),
        ("split_train.txt", False),
        ("split_test.txt", False),
        ("gt.json", True),
        ("split_test.txt", True),
    ],
)
def test_missing_file(refused, tiny, tmp_path, name, inference):
    if inference and name != "split_test.txt":
        pytest.skip("a trained model needs neither")
    (tiny.path / name).unlink()
    tiny_checkpoint(tmp_path / "m.pt")
    flags = ["--inference_only", "--model_file", str(tmp_path / "m.pt")] if inference else []
    assert str(tiny.path / name) in refused(*flags)


@pytest.mark.parametrize("name", ["gt.json", "split_train.txt"])
def test_folder_instead_of_a_file(refused, tiny, name):
    (tiny.path / name).unlink()
    (tiny.path / name).mkdir()
    assert str(tiny.path / name) in refused()


@pytest.mark.parametrize("flag", ["--data_path", "--exp_name", "--model_file"])
def test_name_that_no_file_can_have(refused, flag):
    inference = ["--inference_only"] if flag == "--model_file" else []
    assert "x" * 300 in refused(*inference, flag, "x" * 300)


def test_malformed_gt_json(refused, tiny):
    """One of the damages in test_ground_truth.py, as are those of the next three."""
    tiny.gt.write_bytes(b'{"database": {')
    assert f"{tiny.gt}: not valid JSON" in refused()


def test_malformed_video_entry(refused, tiny):
    tiny.edit_gt(lambda database: database.update(train_2={"subset": "train"}))
    line = refused()
    assert str(tiny.gt) in line and "'train_2'" in line


def test_malformed_label(refused, tiny):
    tiny.edit_gt(lambda database: database["train_2"]["annotations"][0].update(label=3))
    line = refused()
    assert str(tiny.gt) in line and "'train_2', annotation 0" in line


def test_malformed_segment(refused, tiny):
    tiny.edit_gt(lambda database: database["test_1"]["annotations"].append({"label": CLASSES[1], "segment": [5, 2]}))
    line = refused()
    assert str(tiny.gt) in line and "'test_1', annotation 1" in line and "ends at or before its start" in line


@pytest.mark.parametrize("split", ["train", "test"])
def test_split_video_without_annotation(refused, tiny, split):
    file = tiny.path / f"split_{split}.txt"
    file.write_text(file.read_text() + "stranger\n")
    line = refused()
    assert str(file) in line and "'stranger'" in line and str(tiny.gt) in line


def test_training_video_without_labels(refused, tiny):
    tiny.edit_gt(lambda database: database["train_4"].update(annotations=[]))
    line = refused()
    assert str(tiny.gt) in line and "'train_4'" in line and "no labels" in line


@pytest.mark.parametrize("subset", ["train", "test", "validation"])
def test_video_in_both_splits(refused, tiny, subset):
    """Whatever gt.json says of it."""
    for split in ("train", "test"):
        file = tiny.path / f"split_{split}.txt"
        file.write_text(file.read_text().replace("test_2\n", "") + "test_2\n")
    tiny.edit_gt(lambda database: database["test_2"].update(subset=subset))
    line = refused()
    assert "'test_2' is in both split_train.txt and split_test.txt" in line


def test_subset_that_contradicts_the_split_file(refused, tiny):
    tiny.edit_gt(lambda database: database["train_5"].update(subset="test"))
    line = refused()
    assert str(tiny.gt) in line and "'train_5'" in line and "'test'" in line and "split_train.txt" in line


@pytest.mark.parametrize(
    ("content", "words"),
    [(b" \n\n", "names no video"), (b"train_0\ntrain_1\ntrain_0\n", "'train_0' is listed twice"), (b"\xff\n", "UTF-8")],
    ids=["blank", "a video twice", "not UTF-8"],
)
def test_malformed_split_file(refused, tiny, content, words):
    file = tiny.path / "split_train.txt"
    file.write_bytes(content)
    line = refused()
    assert f"{file}: " in line and words in line


# Features


def test_one_missing_feature_file(refused, tiny):
    file = tiny.feature("test", "flow", "test_1")
    file.unlink()
    line = refused()
    assert f"{file}: no such feature file" in line and "more" not in line


def test_several_missing_feature_files(refused, tiny):
    files = [tiny.feature("train", stream, f"train_{i}") for i in (2, 3) for stream in ("rgb", "flow")]
    for file in files:
        file.unlink()
    line = refused()
    assert f"{files[0]}: no such feature file" in line and line.endswith("(and 1 more, above)")


def test_missing_stream_says_how_many(refused, tiny):
    shutil.rmtree(tiny.path / "features" / "train" / "flow")
    first = tiny.feature("train", "flow", "train_0")
    line = refused()
    assert f"{first}: no such feature file" in line and line.endswith("(and 6 more, above)")


@pytest.mark.parametrize("cache", ["ram", "mmap"])
def test_streams_of_different_length(refused, tiny, cache):
    file = tiny.feature("train", "flow", "train_1")
    array = np.load(file)
    np.save(file, array[:-3])
    line = refused("--cache", cache)
    assert "'train_1'" in line and f"{file} has {len(array) - 3}" in line and "--skip_unusable" in line
    assert f"{tiny.feature('train', 'rgb', 'train_1')} has {len(array)}" in line


def test_joint_array_with_a_single_stream(refused, tiny):
    """What is right for rgb and flow side by side is too wide for --modal rgb."""
    file = tiny.feature("train", "rgb", "train_0")
    np.save(file, np.concatenate([np.load(file)] * 2, axis=1))
    line = refused("--modal", "rgb")
    assert f"{file}: shape" in line and f"{2 * FEATURE_SIZE})" in line
    assert f"--feature_size {2 * FEATURE_SIZE} would fit" in line


def test_wrong_feature_size(refused, tiny):
    line = refused("--feature_size", str(FEATURE_SIZE + 1))
    assert str(tiny.feature("train", "rgb", "train_0")) in line
    assert f"[snippets, {FEATURE_SIZE + 1}]" in line and "--feature_size" in line


@pytest.mark.parametrize("cache", ["ram", "mmap"])
def test_wrong_kind_of_array(refused, tiny, cache):
    """One of the shapes and types in test_readers.py."""
    file = tiny.feature("test", "rgb", "test_2")
    np.save(file, np.full((9, FEATURE_SIZE), "0.5"))
    line = refused("--cache", cache)
    assert f"{file}: an array of <U3, expected float32 or float16" in line


@pytest.mark.parametrize(("split", "video", "cache"), [("train", "train_3", "device"), ("test", "test_0", "ram")])
def test_features_that_are_not_finite(refused, tiny, split, video, cache):
    file = tiny.feature(split, "flow", video)
    array = np.load(file)
    array[7, 2] = -np.inf
    np.save(file, array)
    line = refused("--cache", cache)
    assert str(file) in line and f"'{video}'" in line and "snippet 7" in line


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(("split", "video"), [("train", "train_3"), ("test", "test_0")])
def test_streamed_features_that_are_not_finite(run, tiny, split, video, workers):
    """Files of --cache mmap are not read before they are needed."""
    file = tiny.feature(split, "flow", video)
    array = np.load(file)
    array[:, 2] = np.nan
    np.save(file, array)
    outcome = run(tiny.path, "--cache", "mmap", "--num_workers", workers)
    line = complaint(outcome.code, outcome.err)
    assert str(file) in line and f"'{video}'" in line and "first at snippet " in line


def test_features_that_change_while_they_are_streamed(tiny):
    """Shorter than when they were looked at."""
    paths = {stream: tiny.feature("train", stream, "train_0") for stream in ("rgb", "flow")}
    files = FeatureFiles("train_0", paths, streams=("rgb", "flow"), feature_size=FEATURE_SIZE)
    np.save(paths["flow"], np.load(paths["flow"])[:3])
    with pytest.raises(InputError, match=f"{paths['flow']}: has 3 snippets now, had {len(files)}"):
        files[np.array([0])]


def test_float64_that_float32_does_not_hold(refused, tiny):
    """Batches are float32, in which such a value is infinite."""
    file = tiny.feature("train", "rgb", "train_0")
    array = np.load(file).astype(np.float64)
    array[3, 1] = 1e39
    np.save(file, array)
    line = refused()
    assert str(file) in line and "'train_0'" in line


@pytest.mark.parametrize("cache", ["ram", "mmap"])
def test_broken_npy(refused, tiny, cache):
    """One of the damages in test_readers.py."""
    file = tiny.feature("train", "rgb", "train_1")
    file.write_bytes(file.read_bytes()[:-100])
    assert f"{file}: not a complete .npy file" in refused("--cache", cache)


def test_pickled_npy_is_refused_without_unpickling(refused, tiny, tmp_path):
    marker, file = tmp_path / "marker", tiny.feature("train", "rgb", "train_0")
    np.save(file, np.array([Exploit(marker)], object), allow_pickle=True)
    np.load(file, allow_pickle=True)
    marker.rmdir()  # it existed: the file is a live one
    assert f"{file}: holds pickled objects" in refused()
    assert not marker.exists()


# Checkpoints


def test_no_model_file(refused, tmp_path):
    assert f"{tmp_path / 'no.pt'}: no such checkpoint" in refused(
        "--inference_only", "--model_file", str(tmp_path / "no.pt")
    )


def test_model_file_is_a_folder(refused, tmp_path):
    (tmp_path / "m.pt").mkdir()
    assert f"{tmp_path / 'm.pt'}: " in refused("--inference_only", "--model_file", str(tmp_path / "m.pt"))


@pytest.mark.parametrize("flags", [[], ["--exp_name", "nowhere"]], ids=["any", "by name"])
@pytest.mark.parametrize(("mode", "needs"), [("--inference_only", "best.pt"), ("--resume", "last.pt")])
def test_no_experiment(refused, tmp_path, mode, needs, flags):
    line = refused(mode, *flags)
    assert f"{tmp_path / 'out' / (flags[-1] if flags else '*') / needs}: no such checkpoint" in line


def test_experiment_that_was_interrupted_before_its_first_evaluation(refused, tmp_path):
    tiny_checkpoint(tmp_path / "out" / "x" / "last.pt")
    assert f"{tmp_path / 'out' / 'x' / 'best.pt'}: " in refused("--inference_only", "--exp_name", "x")


def test_checkpoint_of_another_hidden_size(refused, tmp_path):
    tiny_checkpoint(tmp_path / "m.pt", "--hidden_size", "16")
    line = refused("--inference_only", "--model_file", str(tmp_path / "m.pt"))  # tiny flags say 8
    assert f"{tmp_path / 'm.pt'}: " in line and "--hidden_size" in line and "shape" in line


def test_checkpoint_of_another_kernel_size(refused, tmp_path):
    tiny_checkpoint(tmp_path / "m.pt")
    line = refused("--inference_only", "--model_file", str(tmp_path / "m.pt"), "--kernel_size", "5")
    assert "encoder.0.weight has shape [8, 12, 3], the model needs [8, 12, 5]" in line


def test_published_checkpoint_of_another_number_of_classes(refused, tmp_path):
    state = tiny_checkpoint(tmp_path / "m.pt", classes=("A", "B", "C", "D")).model
    torch.save(to_published(state), tmp_path / "m.pt")
    line = refused("--inference_only", "--model_file", str(tmp_path / "m.pt"))
    assert f"{tmp_path / 'm.pt'}: names no classes and has 4, the data have 3" in line and "--classes" in line


def test_checkpoint_of_other_streams(refused, tmp_path):
    tiny_checkpoint(tmp_path / "m.pt")
    line = refused("--inference_only", "--model_file", str(tmp_path / "m.pt"), "--modal", "rgb")
    assert "action_flow.0.weight" in line and "--modal" in line


@pytest.mark.parametrize(
    ("classes", "differing"),
    [
        (("Dive", "Jump", "Swim"), "Swim, Throw"),
        (("Dive", "Jump", "Swim", "Throw"), "Swim"),
        (("Dive",), "Jump, Throw"),
    ],
    ids=["one other", "one more", "fewer"],
)
def test_resuming_with_another_class_list(refused, tmp_path, classes, differing):
    file = tmp_path / "out" / "x" / "last.pt"
    tiny_checkpoint(file, classes=classes)
    line = refused("--resume", "--exp_name", "x")
    assert f"{file}: trained for {len(classes)} other classes than the data's 3" in line and differing in line


@pytest.mark.parametrize("flags", [["--resume"], ["--inference_only"]], ids=["resume", "infer"])
def test_broken_checkpoint(refused, tmp_path, flags):
    """One of the damages in test_checkpoint.py."""
    for name in ("last.pt", "best.pt"):
        file = tmp_path / "out" / "x" / name
        tiny_checkpoint(file)
        file.write_bytes(file.read_bytes()[:-1])
    assert f"{file.with_name('last.pt' if '--resume' in flags else 'best.pt')}: corrupt" in refused(*flags)


@pytest.mark.parametrize("mode", ["infer", "resume"])
def test_code_in_a_checkpoint_is_not_run(refused, tmp_path, mode):
    marker, file = tmp_path / "marker", tmp_path / "out" / "x" / "last.pt"
    file.parent.mkdir(parents=True)
    torch.save({"model": {"encoder.0.weight": Exploit(marker)}, "format": 1}, file)
    torch.load(file, weights_only=False)
    marker.rmdir()  # it existed: the file is a live one
    line = refused(*(["--resume"] if mode == "resume" else ["--inference_only", "--model_file", str(file)]))
    assert f"{file}: " in line
    assert not marker.exists()


# Experiments


@pytest.mark.parametrize("present", [["last.pt", "best.pt"], ["last.pt"], ["best.pt"]], ids="+".join)
def test_training_again_under_a_name(refused, tmp_path, present):
    for name in present:
        tiny_checkpoint(tmp_path / "out" / "x" / name)
    line = refused("--exp_name", "x")  # which looks that the checkpoints stay as they are
    assert f"{tmp_path / 'out' / 'x' / present[0]} exists" in line
    assert "--exp_name x" in line and "--overwrite" in line and "--resume" in line


@pytest.mark.parametrize(
    "flags",
    [["--lr", "nan"], ["--drop_last", "--batch_size", "8"], ["--feature_size", "7"], ["--data_path", "/nonexistent"]],
    ids=["range", "no batch", "features", "path"],
)
def test_a_mistake_with_overwrite_overwrites_nothing(refused, tmp_path, flags):
    """Everything is checked before the old run is touched."""
    for name in ("last.pt", "best.pt", "tensorboard/events", "inference/results.json"):
        path = tmp_path / "out" / "x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"precious")
    refused("--exp_name", "x", "--overwrite", *flags)


def test_training_under_another_name_is_fine(tiny, run, tmp_path):
    tiny_checkpoint(tmp_path / "out" / "x" / "last.pt")
    assert run(tiny.path, "--exp_name", "y", "--num_epochs", "1").code == 0


def test_resume_with_changed_options(refused, tmp_path):
    tiny_checkpoint(tmp_path / "out" / "x" / "last.pt")
    changes = ["--lr", "0.5", "--q_val", "0.7", "--modal", "rgb", "--no-soft_nms", "--average_tious", "0.1:0.3"]
    line = refused("--resume", "--exp_name", "x", *changes)
    for part in (
        *("--lr is 0.5, the experiment has 0.01", "--q_val is 0.7, the experiment has 0.5"),
        *("--modal is rgb, the experiment has all", "--soft_nms is False, the experiment has True"),
        *("--average_tious is", "0.1:0.3"),
    ):
        assert part in line
    assert "--num_segments" not in line  # typed, and the same


def test_resume_from_a_checkpoint_without_training_state(refused, tmp_path):
    tiny_checkpoint(tmp_path / "out" / "x" / "last.pt", training={"step": 4, "best": None})
    assert f"{tmp_path / 'out' / 'x' / 'last.pt'}: holds no training state" in refused("--resume")


def test_resume_on_other_videos(refused, tiny, run, tmp_path):
    assert run(tiny.path, "--exp_name", "x", "--num_epochs", "1").code == 0
    split = tiny.path / "split_train.txt"
    split.write_text("\n".join(reversed(split.read_text().split())))
    line = refused("--resume", "--num_epochs", "1")
    assert f"{tmp_path / 'out' / 'x' / 'last.pt'}: the data are not those" in line
    assert "the training videos stand in another order" in line


@pytest.mark.parametrize("flags", [["--output_dir"], ["--output_dir", "/deeper"]], ids=["itself", "a folder in it"])
def test_output_dir_is_a_file(refused, tmp_path, flags):
    (tmp_path / "file").write_text("precious")
    line = refused("--output_dir", str(tmp_path / "file") + "".join(flags[1:]))
    assert str(tmp_path / "file") in line


def test_experiment_name_is_that_of_a_file(refused, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes").write_text("precious")
    assert str(tmp_path / "out" / "notes") in refused("--exp_name", "notes")


@pytest.mark.parametrize("name", ["a/b", "/tmp/a", "..", ".", "a/"])
def test_experiment_name_with_a_path(refused, name):
    """The folder must lie in --output_dir, or --inference_only and --resume won't find it."""
    assert f"--exp_name {name}: " in refused("--exp_name", name)


@pytest.mark.parametrize("name", ["typo", "empty"])
def test_a_mistyped_path_is_not_filled_with_the_demo_set(refused, tmp_path, name):
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / name) in refused("--dataset", "demo", "--data_path", str(tmp_path / name))


# Flags


@pytest.mark.parametrize(
    "flag",
    ["--learning_rate=1", "--num_seg=24", "--num-segments=24", "-x", "stray"],
    ids=["unknown", "abbreviated", "dashes", "short", "no flag"],
)
def test_unknown_flag(refused, flag):
    assert flag in refused(flag)


WRONG_TYPES = [
    *("--num_segments 1.5", "--num_segments many", "--batch_size two", "--num_epochs 1e3", "--seed 0.5", "--scale x"),
    *("--lr fast", "--lr 1,5", "--gamma -", "--class_th 25%", "--fps 25fps", "--nms_thresh high", "--nms_alpha a"),
    *("--modal audio", "--dataset hmdb", "--cache disk", "--mil_rank score", "--mask_mean_init none"),
    *("--soft_nms=yes", "--verbose=1", "--lr", "--data_path", "--average_tious"),
]


@pytest.mark.parametrize("text", WRONG_TYPES)
def test_value_of_the_wrong_type(refused, text):
    assert text.partition("=")[0].split()[0] in refused(*text.split())


OUT_OF_RANGE = [
    *("num_segments 0", "num_segments -5", "feature_size 0", "snippet_frames 0", "fps 0", "fps nan", "num_workers -1"),
    *("seed -1", f"seed {2**64}", f"seed {2**70}", "hidden_size 0", "rgb_fusion 1.5", "rgb_fusion nan", "dropout 1"),
    *("sqrt_eps 0", "w_mil nan", "w_bg -1", "w_so inf", "w_act -0.1", "w_mutual nan", "mil_ratio 0"),
    *("mil_ratio 1.1", "bg_ratio nan", "bg_ratio 0", "q_val 0", "q_val 1.5", "q_val nan", "gce_eps 0", "label_eps -1"),
    *("pseudo_ratio -0.1", "pseudo_ratio nan", "pseudo_extra -1", "confidence_ratio 2", "mask_momentum 1.01"),
    *("mask_momentum nan", "mask_var_factor 0", "mask_mean_init -1", "mask_mean_init nan", "mask_var_init 0"),
    *("fuse_cas 1.2", "fuse_rgb nan", "fuse_flow -0.5", "lr 0", "lr -1", "lr nan", "lr inf", "beta1 1", "beta2 nan"),
    *("weight_decay -1", "weight_decay nan", "batch_size 0", "batch_size -2", "num_epochs 0", "save_epochs 0"),
    *("log_steps 0", "scale 0", "class_th 1.5", "class_th nan", "class_th -0.1", "beta 2", "beta nan"),
    *("outer_margin -1", "outer_margin inf", "gamma -0.5", "gamma nan", "nms_alpha 0", "nms_alpha nan"),
    *("nms_thresh 1.5", "nms_thresh nan", "nms_offset -1", "nms_offset inf", "detection_inf_step 0"),
    *("eval_from_epoch 0", "test_batch_size 0", "actionness_kernel_size 0", "kernel_size -1"),
]


@pytest.mark.parametrize("text", OUT_OF_RANGE)
def test_value_out_of_range(refused, text):
    flag, value = text.split()
    line = refused(f"--{flag}", value)
    assert f"--{flag} {value}" in line.replace(".0:", ":") and "must lie in" in line


@pytest.mark.parametrize("flag", ["--kernel_size", "--actionness_kernel_size"])
def test_even_kernel_size(refused, flag):
    line = refused(flag, "4")
    assert f"{flag} 4" in line and "odd" in line


GRIDS = ["", "high", "0.5:0.1:0.1", "0:0.7:0.1", "0.1:1:0.1", "0.1:0.7:0", "0.1:0.7:-0.1", "0.1:nan:0.1", "0.1:0.7"]


@pytest.mark.parametrize("flag", ["--tious", "--proposal_th"])
@pytest.mark.parametrize("grid", [*GRIDS, "nan", "0.1:0.7:inf", "0.1:0.7:0.1:0.1", "0.1,0.2", "1.5"])
def test_malformed_grid(refused, flag, grid):
    assert f"{flag}: '{grid}'" in refused(flag, grid)


@pytest.mark.parametrize("span", ["", "high", "0.7:0.1", "0.1:high", "0:0.5", "0.1:nan", "0.1:0.2:0.3"])
def test_malformed_span(refused, span):
    line = refused("--average_tious", "0.1:0.5", span)
    assert "--average_tious" in line and f"'{span}" in line


def test_average_over_no_threshold(refused):
    line = refused("--average_tious", "0.1:0.7", "0.85:0.95")
    assert "--average_tious 0.85:0.95" in line and "--tious 0.1:0.7:0.1" in line


@pytest.mark.parametrize("flag", ["mil_ratio", "bg_ratio", "confidence_ratio"])
def test_too_few_segments_for_a_topk(refused, flag):
    ratios = {"mil_ratio": "1", "bg_ratio": "1", "confidence_ratio": "1", flag: "0.125"}
    flags = [part for name, ratio in ratios.items() for part in (f"--{name}", ratio)]
    line = refused("--num_segments", "7", *flags)
    assert "--num_segments 7" in line and f"--{flag} 0.125" in line


def test_too_few_segments_for_the_pseudo_labels(refused):
    line = refused("--num_segments", "16", "--pseudo_extra", "15")  # 16 // 8 + 15 = 17
    assert "--num_segments 16" in line and "--pseudo_extra" in line


def test_fusion_of_nothing(refused):
    """The weight that is left is that of a stream which --modal leaves out."""
    line = refused("--modal", "rgb", "--fuse_cas", "0", "--fuse_rgb", "0", "--fuse_flow", "1")
    assert "--fuse_cas" in line and "--fuse_rgb" in line


@pytest.mark.parametrize("name", ["tpu", "", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cuda:0:1", "cpu:0", "cuda0"])
def test_unknown_device(refused, name):
    assert f"--device {name}: must be auto, cpu, cuda or cuda:INDEX" in refused("--device", name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_no_gpu(refused, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert f"--device {name}: no CUDA GPU" in refused("--device", name)


def test_no_such_gpu(refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "--device cuda:2: there are 2" in refused("--device", "cuda:2")


def test_drop_last_that_leaves_no_batch(refused):
    line = refused("--drop_last", "--batch_size", "8")
    assert "--batch_size 8" in line and "--drop_last" in line and "7" in line


def test_as_processes(tmp_path):
    """Mistakes in a flag, a path and a file, each told to a process of its own; the three run side by side."""
    mistakes = [["--lr", "nan"], ["--data_path", "/nonexistent"], ["--inference_only", "--model_file", __file__]]
    how = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, str(ROOT / "main.py"), *arguments], **how) for arguments in mistakes]
    for arguments, process in zip(mistakes, processes, strict=True):
        out, err = process.communicate(timeout=100)
        assert arguments[-1] in complaint(process.returncode, err)
        assert out == ""
    assert not list(tmp_path.iterdir())


# A full disk


@pytest.fixture
def full_disk(monkeypatch):
    """full_disk(room): from now on a file that utils.atomic writes has room for so many bytes.

    With `name` and `time`: that file alone, from the time-th that it is written on.
    """

    def fill(room, name="", time=1):
        count = 0

        class Full(io.FileIO):
            def write(self, data):
                fits = room - self.tell()
                if len(data) > fits:
                    super().write(bytes(data)[: max(fits, 0)])
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return super().write(data)

        def opened(path, mode):
            nonlocal count
            assert mode == "xb"
            count += name in path.name
            return io.BufferedWriter(Full(path, mode)) if name in path.name and count >= time else open(path, mode)

        monkeypatch.setattr("utils.atomic.open", opened, raising=False)

    return fill


def a_checkpoint(value):
    return Checkpoint(
        model={"w": torch.full((50, 40), float(value))}, options={"lr": value}, classes=("A",), training={"step": 1}
    )


def write_some_detections(path):
    count = 100
    numbers, zeros = np.arange(count, dtype=np.float64), np.zeros(count, np.int64)
    write_detections(path, Segments(zeros, zeros, numbers, numbers + 1, numbers), ("v",), ("A",))


WRITERS = {
    "checkpoint": lambda path: save_checkpoint(path, a_checkpoint(2)),
    "results": lambda path: write_text(path, json.dumps({"mAP": [0.5] * 1000})),
    "detections": write_some_detections,
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0], ids=["at once", "half-way", "at the last byte"])
@pytest.mark.parametrize("there_before", [True, False], ids=["old file", "no file"])
def test_full_disk_leaves_the_old_file(tmp_path, full_disk, kind, share, there_before):
    path = tmp_path / "taken" / "file"
    WRITERS[kind](path)
    size = path.stat().st_size
    path.unlink()
    if there_before:
        path.write_bytes(b"the old one")
    before = contents(tmp_path)
    full_disk(int(share * (size - 1)))
    with pytest.raises(InputError, match="No space left on device") as caught:
        WRITERS[kind](path)
    assert str(path) in str(caught.value) and ("unharmed" in str(caught.value)) == there_before
    assert contents(tmp_path) == before
    full_disk(size)
    WRITERS[kind](path)
    assert path.stat().st_size == size  # so that it was the last byte


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_disk_that_fails_late(tmp_path, monkeypatch, call):
    path = tmp_path / "a.pt"
    save_checkpoint(path, a_checkpoint(1))
    before = contents(tmp_path)

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("utils.atomic.os", SimpleNamespace(**{**vars(os), call: fail}))
    with pytest.raises(InputError, match="No space left on device"):
        save_checkpoint(path, a_checkpoint(2))
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("room", "named"), [(0, "options.json"), (4000, "last.pt"), (0, "best.pt")])
def test_full_disk_while_training(tiny, run, tmp_path, full_disk, room, named):
    """Options take 2 kB, results 5, checkpoints 14 and more."""
    folder = tmp_path / "out" / "x"
    flags = ["--exp_name", "x", "--overwrite", "--num_epochs", "1"]
    assert run(tiny.path, *flags).code == 0
    old = contents(folder)
    full_disk(room, name=named)
    outcome = run(tiny.path, *flags, "--seed", "2")
    line = complaint(outcome.code, outcome.err)
    assert f"{folder / named}: can't be written (No space left on device)" in line
    assert contents(folder.with_name("x.old")) == old  # the run that --overwrite set aside
    assert not [p for p in folder.rglob("*") if p.name.endswith(".tmp")]
    written = {p.name for p in folder.iterdir()}
    assert named not in written
    for name in written & {"best.pt", "last.pt"}:
        load_checkpoint(folder / name)


def test_full_disk_while_inferring(tiny, run, tmp_path, full_disk):
    tiny_checkpoint(tmp_path / "out" / "x" / "best.pt")
    full_disk(100)
    outcome = run(tiny.path, "--inference_only")
    assert "detections.json: can't be written" in complaint(outcome.code, outcome.err)
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file() and p.name != "best.pt"]


def limit_file_size(limit):
    """A preexec_fn for subprocess: no file may grow beyond `limit` bytes; the kernel answers with an error and no signal."""

    def in_child():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return in_child


IGNORE_SIGNAL = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"


def test_a_write_that_the_kernel_refuses(tmp_path):
    """The same as test_full_disk_*, with nothing in its place but the operating system."""
    path = tmp_path / "a.pt"
    save_checkpoint(path, a_checkpoint(1))
    before = contents(tmp_path)
    script = IGNORE_SIGNAL + (
        "import pathlib, sys, torch\n"
        "from run.checkpoint import Checkpoint, save_checkpoint\n"
        "from utils.errors import InputError\n"
        "try:\n"
        "    save_checkpoint(pathlib.Path(sys.argv[1]), Checkpoint(model={'w': torch.zeros(100_000)}))\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        preexec_fn=limit_file_size(64_000),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{path}: can't be written" in done.stdout and "unharmed" in done.stdout
    assert contents(tmp_path) == before


def test_tensorboard_that_the_kernel_refuses(tiny, tmp_path):
    """Its file is written by another thread, by another library: still one line, and checkpoints as they were."""
    folder = tmp_path / "out" / "x"
    tiny_checkpoint(folder / "best.pt")
    before = contents(folder)
    script = IGNORE_SIGNAL + "import sys, main; sys.exit(main.main(sys.argv[1:]))"
    flags = ["--data_path", str(tiny.path), "--output_dir", str(tmp_path / "out"), "--exp_name", "x", "--overwrite"]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            script,
            *flags,
            *TINY_FLAGS,
            "--log_steps",
            "1",
            "--num_epochs",
            "20",
            "--eval_from_epoch",
            "21",
            "--save_epochs",
            "21",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        preexec_fn=limit_file_size(4000),
    )
    assert str(folder) in complaint(done.returncode, done.stderr)
    assert (folder.with_name("x.old") / "best.pt").read_bytes() == before["best.pt"]
    assert not list(folder.rglob("*.tmp"))
