"""The Python API: the same results as main.py --predict, and nothing of the caller's is touched."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from support.paths import ROOT
from support.tiny import CLASSES, FEATURE_SIZE
from support.trained import OPTIONS, tiny_network, write_bare_model, write_tiny_model

import main
from localizer import Detection, Localizer
from run.checkpoint import Checkpoint, save_checkpoint


def features(length, seed=0):
    return np.random.default_rng(seed).random((length, 2 * FEATURE_SIZE)).astype(np.float32)


@pytest.fixture
def model_file(tmp_path):
    return write_tiny_model(tmp_path / "model.pt")


@pytest.fixture
def model(model_file):
    return Localizer.load(model_file, device="cpu")


def test_the_same_as_main_to_the_bit(tmp_path, model, model_file):
    arrays = {f"v{i}": features(length, i) for i, length in enumerate((50, 10, 24))}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    paths = [str(tmp_path / f"{name}.npy") for name in arrays]
    out = tmp_path / "out"
    assert main.main(["--predict", *paths, "--model_file", str(model_file), "--device", "cpu", "--out", str(out)]) == 0
    results = json.loads((out / "detections.json").read_text())["results"]
    written = [
        [Detection(label=d["label"], start=d["segment"][0], end=d["segment"][1], score=d["score"]) for d in found]
        for found in results.values()
    ]
    assert list(results) == list(arrays) and all(written)
    assert model(list(arrays.values())) == written
    assert model([torch.from_numpy(array) for array in arrays.values()]) == written
    assert model(paths) == written
    assert list(model.predict(paths).items()) == list(zip(arrays, written, strict=True))


def test_one_video_or_a_list(tmp_path, model):
    array = features(30)
    np.save(tmp_path / "a.npy", array)
    (alone,) = model([array])
    assert model(array) == alone == model(tmp_path / "a.npy") == model(str(tmp_path / "a.npy"))
    assert model([]) == [] and model.predict(tmp_path / "a.npy") == {"a": alone}
    assert isinstance(alone[0], Detection) and alone[0].label in CLASSES
    assert [d.score for d in alone] == sorted((d.score for d in alone), reverse=True)


def test_a_model_of_one_stream(tmp_path):
    """It takes that stream, alone or out of features of both."""
    state = tiny_network(modal=("flow",)).state_dict()
    options = {**OPTIONS, "modal": "flow"}
    save_checkpoint(tmp_path / "flow.pt", Checkpoint(model=state, options=options, classes=CLASSES))
    model, array = Localizer.load(tmp_path / "flow.pt", device="cpu"), features(30)
    assert model(array) == model(array[:, FEATURE_SIZE:]) != model(array[:, :FEATURE_SIZE])
    with pytest.raises(ValueError, match="takes 6 channels of flow"):
        model(array[:, :7])


def test_times_follow_the_frame_rate(model):
    array = features(30)
    usual, twice = model(array), model(array, fps=50.0)
    assert [d.end for d in twice if d.score == usual[0].score] == [usual[0].end / 2]


def test_options_of_main(model_file):
    array = features(30)
    best = Localizer.load(model_file, device="cpu", top=2, min_score=-1.0)(array)
    assert best == Localizer.load(model_file, device="cpu")(array)[:2]


def test_a_bare_state_dict(tmp_path, model):
    (tmp_path / "names.txt").write_text("\n".join(CLASSES))
    bare = Localizer.load(
        write_bare_model(tmp_path / "bare.pt"),
        device="cpu",
        classes=tmp_path / "names.txt",
        num_segments=24,
        class_th=0.0,
    )
    assert bare(features(30)) == model(features(30))


def test_sequences(model):
    curves = model.sequences(features(50))
    assert curves.classes == CLASSES and curves.cas.shape == curves.combined.shape == (24, 3)
    assert curves.times[0] == 0 and curves.times[12] == pytest.approx(25 * 0.64)
    rgb, flow = curves.stream_actionness["rgb"], curves.stream_actionness["flow"]
    np.testing.assert_allclose(curves.actionness, 0.9 * flow + 0.1 * rgb, rtol=1e-5)
    softmax = np.exp(curves.cas) / np.exp(curves.cas).sum(1, keepdims=True)
    np.testing.assert_allclose(curves.combined, (softmax + rgb[:, None] + flow[:, None]) / 3, rtol=1e-5)
    assert curves.class_scores.sum() == pytest.approx(1)
    several = model.sequences([features(10), features(50)])
    assert len(several) == 2
    np.testing.assert_allclose(several[1].combined, curves.combined, rtol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "complains"),
    [
        (lambda: features(9)[:, :7], r"features: shape \(9, 7\), .*model.pt takes rgb and flow of 6 channels each"),
        (lambda: features(9).T, "transposed"),
        (lambda: np.full((9, 12), np.nan, np.float32), "NaN"),
        (lambda: [features(9), 3], r"features\[1\]: expected an array"),
        (lambda: None, "expected an array"),
        (lambda: "gone.npy", "gone.npy: no such file"),
    ],
    ids=["width", "transposed", "nan", "number", "none", "path"],
)
def test_mistakes_are_value_errors(model, wrong, complains):
    with pytest.raises(ValueError, match=complains):
        model(wrong())


def test_unknown_options(model_file):
    with pytest.raises(ValueError, match="no option of a model is called nms, resume"):
        Localizer.load(model_file, resume=True, nms=1)


def test_the_callers_torch_stays_as_it_is(model_file, capsys):
    def settings():
        tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        return torch.get_rng_state(), torch.get_num_threads(), tf32

    before = settings()
    Localizer.load(model_file, device="cpu")(features(30))
    after = settings()
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
    assert capsys.readouterr() == ("", "")


def test_importable_beside_modules_of_the_same_names(tmp_path, model_file):
    """`import test` is Python's own package or the user's module, before and after; so are utils, model and the rest."""
    for name in ("utils", "model", "dataset", "options", "run"):
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    np.save(tmp_path / "a.npy", features(30))
    (tmp_path / "use.py").write_text(
        "import sys, utils, dataset, test\n"
        f"sys.path.append({str(ROOT)!r})\n"
        "from sal import Localizer\n"
        f"found = Localizer.load({str(model_file)!r}, device='cpu')('a.npy')\n"
        "import model, options, run, test.support, typing\n"
        "assert all(m.MINE for m in (utils, dataset, model, options, run)) and found\n"
        "import sal.program.test\n"
        "assert sal.program.test.__file__ != test.__file__ and test is sys.modules['test']\n"
        "names = {name for name in sys.modules if name.split('.')[0] in ('localizer', 'formats', 'layers', 'train')}\n"
        "assert not names, names\n"
        "typing.get_type_hints(sal.program.localizer.Sequences)\n"
    )
    done = subprocess.run([sys.executable, "use.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e308, 1e-308, "30", True, [25, 30]])
def test_a_frame_rate_that_is_none_is_refused(tmp_path, model, fps):
    np.save(tmp_path / "a.npy", features(30))
    for ask in (model, model.sequences):
        with pytest.raises(ValueError, match=r"fps=.*expected a number"):
            ask(features(30), fps=fps)
    with pytest.raises(ValueError, match=r"fps=.*expected a number"):
        model.predict(tmp_path / "a.npy", fps=fps)


@pytest.mark.parametrize("duration", [0, -1, float("nan"), float("inf"), "3", [3]])
def test_a_duration_that_is_none_is_refused(model, duration):
    with pytest.raises(ValueError, match="duration="):
        model(features(30), duration=duration)


def test_durations_of_a_list_are_a_list(model):
    array = features(30)
    clipped, whole = model([array, array], duration=np.array([3.0, 100.0]), fps=np.float32(25))
    assert max(found.end for found in clipped) == 3 < max(found.end for found in whole)
    for wrong in (3, [3], [1, 2, 3]):
        with pytest.raises(ValueError, match="duration: expected a list of 2"):
            model([array, array], duration=wrong)


def test_streams_apart_are_one_video(model):
    array = features(30)
    rgb, flow = array[:, :FEATURE_SIZE], array[:, FEATURE_SIZE:]
    assert model({"flow": torch.from_numpy(flow), "rgb": rgb}) == model(array) == model([{"rgb": rgb, "flow": flow}])[0]
    for wrong, said in (({"rgb": rgb}, "no stream 'flow'"), ({"RGB": rgb}, "'RGB'"), ({}, "keys 'rgb' and 'flow'")):
        with pytest.raises(ValueError, match=said):
            model(wrong)
    with pytest.raises(ValueError, match=r'\{"rgb": array, "flow": array\} is one video'):
        model((rgb, flow))


@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: tensor.to_sparse(),
        lambda tensor: tensor.to("meta"),
        lambda tensor: tensor.to(torch.complex64).conj(),
        lambda tensor: np.ma.masked_less(tensor.numpy(), 0.5),
    ],
)
def test_what_is_no_plain_array_is_a_value_error(model, change):
    with pytest.raises(ValueError, match="features: "):
        model(change(torch.from_numpy(features(30))))


def test_paths_in_a_tuple_and_arrays_in_their_place(tmp_path, model):
    np.save(tmp_path / "a.npy", features(30))
    assert list(model.predict((tmp_path / "a.npy",))) == ["a"]
    for wrong in (features(30), [features(30)], None, 3):
        with pytest.raises(ValueError, match="predict: takes paths"):
            model.predict(wrong)


def test_a_torch_device_and_another_default_type(model, model_file):
    array, expected = features(30), model(features(30))
    torch.set_default_dtype(torch.float64)
    try:
        assert Localizer.load(model_file, device=torch.device("cpu"))(array) == model(array) == expected
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_names_of_other_number_than_outputs_are_refused(tmp_path, model):
    checkpoint = Checkpoint(model=tiny_network().state_dict(), options=OPTIONS, classes=CLASSES[:2])
    save_checkpoint(tmp_path / "fewer.pt", checkpoint)
    with pytest.raises(ValueError, match="names 2 classes for 3 outputs"):
        Localizer.load(tmp_path / "fewer.pt")


@pytest.mark.parametrize(
    "option", [{"batch_size": 2.5}, {"top": 2.5}, {"min_score": "x"}, {"tious": (0.1,)}, {"average_tious": 1}]
)
def test_options_of_another_type_are_refused(model_file, option):
    with pytest.raises(ValueError, match="is no value of --"):
        Localizer.load(model_file, **option)


def test_options_may_be_numbers_of_numpy(model_file):
    assert (
        len(Localizer.load(model_file, batch_size=np.int64(2), top=np.int32(1), min_score=np.float64(-1))(features(30)))
        == 1
    )
