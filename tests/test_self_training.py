"""Self-training, --w_self: what proposals teach, against loops and by hand, and in runs of the program."""

import json
import os
import signal
import time

import numpy as np
import pytest
import torch
from support.networks import build_batch, build_model, build_objective, host_split
from support.runs import assert_same, interrupt_at, load
from support.tiny import FEATURE_SIZE, load_tiny_set

import main
from command_line.flags import as_words
from experiments.job import make_job
from losses import border_loss, log_of_others, proposal_loss
from options import LocalizationOptions, SelfTrainingOptions, check_training, parse_flags, resolve
from recipes import RECIPES
from reference import loops
from self_training import ProposalLessons, dense_proposals, taught_snippets
from train import build_training, train_step
from utils.errors import InputError

RULES, LOCALIZATION = SelfTrainingOptions(), LocalizationOptions()
SMALL = {"num_segments": 24, "feature_size": FEATURE_SIZE, "hidden_size": 8, "pseudo_source": "classes"}
SMALL |= {"w_self": 1.0, "self_border": 0.5}
# Of 12 steps: rounds begin before steps 5, 7 and 10.
FLAGS = ["--pseudo_source=classes", "--w_self", "1", "--self_border", "0.5"]


def dense(rows, **options):
    start, end, score = np.array(rows, np.float64).reshape(-1, 3).T
    return list(zip(*dense_proposals(start, end, score, SelfTrainingOptions(**options)), strict=True))


# Proposals


def test_two_bursts_by_hand():
    """Densities: 1 + 1 + 0.8 twice and 0.8 + 0.8 + 1 of the first burst, 1.5 * 1.5 = 2.25 of the second."""
    rows = [(0, 10, 1), (0, 10, 1), (0, 8, 1), (20, 30, 1.5)]
    end = (2.8 * 10 * 2 + 2.6 * 8) / 8.2
    assert dense(rows, self_fuse=0.5) == [pytest.approx((0, end)), pytest.approx((20, 30))]
    assert dense(rows, self_density=0.8) == [(0, 10), (20, 30)]  # 2.24
    assert dense(rows, self_density=0.81) == [(0, 10)]  # 2.268
    assert dense(rows, self_fuse=0.81)[0] == (0, 10)


def test_what_the_densest_touches_is_gone():
    assert dense([(0, 10, 1), (0, 10, 1), (8, 18, 1), (10, 20, 1)]) == [(0, 10), (10, 20)]


def test_the_same_proposals_keep_their_edges():
    rows = [(3.0, 7.1, 0.1), (3.0, 7.1, 0.7), (3.0, 7.1, 0.3)]
    assert dense(rows) == dense(rows, self_fuse=0.5) == [(3.0, 7.1)]


def test_only_what_overlaps_is_fused():
    """Even where any tIoU is enough, 0 too: not what is far away, nor what begins where the other ends."""
    assert dense([(0, 10, 1), (10, 16, 0.9), (50, 60, 0.9)], self_fuse=0.0) == [(0, 10), (10, 16), (50, 60)]
    assert dense([(0, 10, 1), (8, 18, 1)], self_fuse=0.0) == [(4, 14)]


@pytest.mark.parametrize("rows", [[], [(0, 5, 0.0)], [(0, 5, -1.0), (1, 4, -0.5)], [(3, 3, 1.0)]])
def test_nothing_is_dense_of_nothing(rows):
    assert dense(rows) == []


def test_proposals_below_zero_count_as_none():
    assert dense([(0, 10, 1), (0, 9, -5)], self_fuse=0.5) == [(0, 10)]


@pytest.mark.parametrize("count", [1, 2, 7, 40])
@pytest.mark.parametrize(("density", "iou"), [(0.3, 0.5), (0.0, 0.0), (1.0, 1.0), (0.1, 0.9)])
def test_dense_proposals_are_the_loops(count, density, iou):
    generator = np.random.default_rng(count)
    for _ in range(20):
        start, length = generator.uniform(0, 30, count), generator.uniform(0.1, 12, count)
        rows = np.stack([start, start + length, generator.uniform(-0.2, 1, count)], 1)
        expected = loops.dense_proposals(list(map(tuple, rows[:, :2].tolist())), rows[:, 2].tolist(), density, iou)
        assert dense(rows, self_density=density, self_fuse=iou) == [pytest.approx(pair) for pair in expected]


# Snippets


@pytest.mark.parametrize(
    ("row", "taught"),
    [
        ([0, 0, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0]),
        ([2, 2, 5, 5, 5, 5, 2, 2], [0, 0, 1, 1, 1, 1, 0, 0]),  # the range counts, not the values
        ([0, 0, 0.9, 1, 0, 0, 0.8, 0.9, 0.9, 0], [0, 0, 1, 1, 0, 0, 1, 1, 1, 0]),
        ([0, 0, 1, 0.4, 1, 0.4, 1, 0, 0], [0, 0, 1, 0, 1, 0, 1, 0, 0]),  # one proposal covers all, its dips too
        (
            [0, 0, 1, 1, 1, 0, 0, 0.2, 0, 0],
            [0, 0, 1, 1, 1, 0, 0, 0, 0, 0],
        ),  # below Otsu's threshold, however it contrasts
    ],
)
def test_bursts_are_taught(row, taught):
    assert taught_snippets(np.array([row], np.float32), RULES, LOCALIZATION)[0].tolist() == taught


def test_a_weak_burst_is_left_out_by_density():
    """Above Otsu's threshold, and found by half as many proposals of half the height: less than a tenth as dense."""
    row = np.array([[0, 0, 1, 1, 1, 1, 0, 0, 0.55, 0, 0]], np.float32)
    assert taught_snippets(row, SelfTrainingOptions(self_density=0.0), LOCALIZATION)[0, 8] > 0
    assert not taught_snippets(row, RULES, LOCALIZATION)[0, 8]


@pytest.mark.parametrize(
    ("row", "whole"),
    [
        ([0, 0, 1, 0.4, 1, 0.4, 1, 0, 0], "001111100"),
        ([0, 0, 1, 1, 1, 0, 0, 0.2, 0, 0], "0011100000"),  # density leaves it out, too
        ([0, 0.3, 1, 0.9, 1, 0.7, 0, 0], "01111100"),
    ],
)
def test_whole_proposals_teach_below_the_threshold_too(row, whole):
    lessons = taught_snippets(np.array([row], np.float32), SelfTrainingOptions(self_whole=True), LOCALIZATION)
    assert "".join(map(str, lessons[0].astype(int).tolist())) == whole


@pytest.mark.parametrize(
    ("row", "taught"), [([0, 0.3, 1, 0.9, 1, 0.7, 0, 0], "00111100"), ([0, 0, 0.9, 0.5, 0.9, 0.9, 1, 0], "00111110")]
)
def test_lessons_lean_to_neither_side(row, taught):
    both = taught_snippets(np.array([row, row[::-1]], np.float32), RULES, LOCALIZATION).astype(int)
    assert ["".join(map(str, lessons)) for lessons in both.tolist()] == [taught, taught[::-1]]


@pytest.mark.parametrize(
    ("row", "border", "taught"),
    [
        ([0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0], 0.5, "..--++++--.."),
        ([0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0], 0.25, "...-++++-..."),
        ([0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0], 0.0, "....++++...."),
        ([0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0], 9.0, "----++++----"),
        ([0, 0, 0, 0, 0, 1, 0, 0, 0, 0], 0.01, "....-+-..."),  # at least a snippet
        ([1, 1, 1, 1, 0, 0, 0, 0], 0.45, "++++--.."),  # nothing is beside the video
        ([0, 0, 1, 1, 0, 1, 1, 1, 1, 0, 0, 0], 0.5, ".-++-++++--."),  # of two
        ([0, 0, 1, 1, 0, 0.6, 0.6, 0, 0, 0], 0.5, ".-++-....."),  # what is not dense teaches nothing, beside it neither
        ([0, 0, 1, 1, 0, 0.6, 0.6, 0, 0, 0], 2.0, "--++-..--."),  # nor where it lies beside a dense one
    ],
)
def test_what_is_beside_a_proposal_is_taught_not_to_be_of_the_class(row, border, taught):
    options = SelfTrainingOptions(self_border=border)
    lessons = taught_snippets(np.array([row, row[::-1]], np.float32), options, LOCALIZATION)
    words = ["".join(".+-"[int(value)] for value in of_row) for of_row in lessons]
    assert words == [taught, taught[::-1]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("t", [1, 2, 7])
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_sequence_that_is_the_same_everywhere_teaches_nothing(t, value):
    assert not taught_snippets(np.full((3, t), value, np.float32), RULES, LOCALIZATION).any()


@pytest.mark.filterwarnings("error")
def test_no_rows_and_neighbouring_floats():
    assert taught_snippets(np.zeros((0, 5), np.float32), RULES, LOCALIZATION).shape == (0, 5)
    low = np.float32(0.3)
    row = np.array([[low, low, np.nextafter(low, np.float32(1)), low]], np.float32)
    assert taught_snippets(row, RULES, LOCALIZATION).tolist() == [[False, False, True, False]]


def test_rows_do_not_know_each_other():
    rows = np.random.default_rng(0).random((9, 30)).astype(np.float32)
    whole = taught_snippets(rows, RULES, LOCALIZATION)
    assert whole.any() and not whole.all()
    for row, taught in zip(rows, whole, strict=True):
        assert np.array_equal(taught_snippets(row[None], RULES, LOCALIZATION)[0], taught)


# Rounds


@pytest.mark.parametrize(
    ("options", "total", "steps"),
    [
        ({}, 12, [4, 6, 9]),  # 1/3, 5/9, 7/9
        ({}, 4046, [1348, 2247, 3146]),
        ({"self_from": 0.0, "self_rounds": 2}, 10, [0, 5]),
        ({"self_from": 0.5, "self_rounds": 1}, 7, [3]),
        ({"self_rounds": 4}, 3, [1, 1, 2, 2]),
        ({}, 1, [0, 0, 0]),
    ],
)
def test_rounds_by_hand(options, total, steps):
    assert SelfTrainingOptions(**options).round_steps(total) == steps


# The loss


def test_the_loss_is_the_loop():
    cas = torch.randn(4, 9, 5)
    taught = (torch.rand(4, 9, 5) > 0.8).float()
    taught[0], taught[1, 3] = 0, 1  # none in a video; all classes at once
    expected = sum(loops.proposal_loss(*pair) for pair in zip(cas, taught, strict=True)) / 4
    assert proposal_loss(cas, taught).item() == pytest.approx(expected, rel=1e-6)


def test_the_loss_by_hand():
    """Of three snippets one learns a class of probability 1/2, one two of 1/4 each, one none; the other video nothing."""
    cas = torch.log(torch.tensor([[[0.5, 0.25, 0.25]] * 3]))
    taught = torch.tensor([[[1.0, 0, 0], [0, 1, 1], [0, 0, 0]]])
    both = proposal_loss(cas.repeat(2, 1, 1), torch.cat([taught, torch.zeros_like(taught)]))
    assert proposal_loss(cas, taught).item() == pytest.approx((np.log(2) + np.log(4)) / 2)
    assert both.item() == pytest.approx((np.log(2) + np.log(4)) / 4)


@pytest.mark.parametrize("loss", [proposal_loss, border_loss])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_gradients_are_finite_and_none_without_lessons(loss, scale):
    cas = (torch.randn(2, 5, 3) * scale).requires_grad_()
    loss(cas, torch.zeros(2, 5, 3)).backward()
    assert not cas.grad.any()
    loss(cas, (torch.rand(2, 5, 3) > 0.5).float()).backward()
    assert cas.grad.isfinite().all() and cas.grad.any()


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_the_loss_of_borders_is_the_loop(classes):
    cas, border = torch.randn(4, 9, classes), (torch.rand(4, 9, classes) > 0.8).float()
    border[0] = 0
    expected = 0.0
    if classes > 1:  # one that is alone has no other to give its probability to
        expected = sum(loops.border_loss(*pair) for pair in zip(cas, border, strict=True)) / 4
    assert border_loss(cas, border).item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_borders_by_hand():
    """Of a class with 1/2, and of one with 1/4; the other video has none."""
    cas = torch.log(torch.tensor([[[0.5, 0.25, 0.25]] * 2] * 2))
    border = torch.zeros(2, 2, 3)
    border[0, 0, 0] = border[0, 1, 2] = 1
    assert border_loss(cas, border).item() == pytest.approx((np.log(2) + np.log(4 / 3)) / 2 / 2)


def test_a_class_that_has_all_is_still_told_how_far_it_is():
    cas = torch.tensor([[1000.0, 0, 0], [0, 0, 1000], [3, 3, 3], [80, 80, 0]], requires_grad=True)
    log = log_of_others(cas)
    expected = [[np.log(2) - 1000, 0, 0], [0, 0, np.log(2) - 1000], [np.log(2 / 3)] * 3, [np.log(0.5)] * 2 + [0]]
    assert log.tolist() == [pytest.approx(row, rel=1e-6) for row in expected]
    (gradient,) = torch.autograd.grad(log[0, 0], cas)
    assert gradient[0].tolist() == pytest.approx([-1, 0.5, 0.5], rel=1e-4)


@pytest.mark.parametrize("flags", [{}, {"no_actionness": True}, {"modal": "rgb"}, {"no_second_order": True}])
def test_the_term_is_weighed(flags):
    options = resolve({**SMALL, "w_self": 2.5, "dropout": 0.0, **flags})
    objective = build_objective(options, 3)
    features = torch.rand(2, 24, objective.model.channels)
    labels, taught = torch.eye(3)[:2], torch.randint(-1, 2, (2, 24, 3)).float()
    result = objective(features, labels, taught)
    losses = dict(zip(result.names, result.losses.tolist(), strict=True))
    cas = objective.model(features).cas
    expected = proposal_loss(cas, (taught == 1).float()) + border_loss(cas, (taught == -1).float())
    assert losses["self"] == pytest.approx(expected.item())
    objective.borders = False
    assert objective(features, labels, taught).losses[result.names.index("self")].item() == pytest.approx(
        proposal_loss(cas, (taught == 1).float()).item()
    )
    without = objective(features, labels)
    assert "self" not in without.names  # which its total lacks
    # The mask's statistics move from one call to the next: only what does not depend on them is compared.
    same = {"act", "mix", "total", "self"}
    others = dict(zip(without.names, without.losses.tolist(), strict=True))
    assert {n: v for n, v in losses.items() if n not in same} == {n: v for n, v in others.items() if n not in same}
    weights = options.losses.weights
    assert losses["total"] == pytest.approx(sum(weights[n] * v for n, v in losses.items() if n != "total"), rel=1e-5)


# Lessons


def lessons_of(tiny, *, order=None, classes=None, **flags):
    """Lessons of the tiny set, whose videos are in this order; `classes` are further ones, {position: class}."""
    options = resolve({**SMALL, **flags})
    data = load_tiny_set(tiny.path)
    videos = list(data.train)
    for position, label in (classes or {}).items():
        videos[position].labels[label] = 1
    videos = [videos[i] for i in order or range(len(videos))]
    torch.manual_seed(3)
    model = build_model(options, 3)
    return ProposalLessons(model, host_split(videos), options), videos


def batch_of(videos):
    labels = torch.from_numpy(np.stack([video.labels for video in videos])).float()
    batch = build_batch(torch.zeros(len(videos), 24, 2 * FEATURE_SIZE), labels)
    return batch._replace(video_ids=tuple(video.video_id for video in videos))


def test_nothing_is_taught_before_the_first_round(tiny):
    lessons, videos = lessons_of(tiny)
    for step in range(4):
        lessons.prepare(step, 12)
        taught = lessons.attach(batch_of(videos)).taught
        assert taught.shape == (7, 24, 3) and not taught.any()
    lessons.prepare(4, 12)
    assert lessons.attach(batch_of(videos)).taught.unique().tolist() == [-1, 0, 1]


@pytest.mark.parametrize("size", ["1", "3", "20"])
def test_each_video_is_taught_its_own(tiny, size):
    """Whatever the order of the videos, in the split and in a batch, and only classes that it is labelled with."""
    plain, videos = lessons_of(tiny, classes={2: 0, 4: 2})
    plain.prepare(4, 12)
    expected = {v.video_id: t for v, t in zip(videos, plain.attach(batch_of(videos)).taught, strict=True)}
    order = [5, 2, 6, 0, 4, 1, 3]
    lessons, _ = lessons_of(tiny, order=order, classes={2: 0, 4: 2}, test_batch_size=int(size))
    lessons.prepare(4, 12)
    chosen = [videos[i] for i in (4, 2, 2, 0)]
    for video, taught in zip(chosen, lessons.attach(batch_of(chosen)).taught, strict=True):
        assert torch.equal(taught, expected[video.video_id])
        assert not taught[:, torch.from_numpy(video.labels) == 0].any()
    assert sum(int(value.any(0).sum()) for value in expected.values()) > 7  # a class more than there are videos


def test_lessons_are_of_the_weights_of_the_round(tiny):
    lessons, _ = lessons_of(tiny)
    lessons.prepare(4, 12)
    before = lessons.taught.clone()
    with torch.no_grad():
        for parameter in lessons.model.parameters():
            parameter.add_(torch.randn_like(parameter))
    lessons.prepare(5, 12)
    assert torch.equal(lessons.taught, before)
    lessons.prepare(6, 12)
    assert not torch.equal(lessons.taught, before)


def test_a_rank_without_videos_in_a_step(tiny):
    lessons, _ = lessons_of(tiny)
    lessons.prepare(4, 12)
    empty = batch_of(lessons.videos.videos[:1])._replace(video_ids=())
    assert lessons.attach(empty).taught.shape == (0, 24, 3)


@pytest.mark.parametrize(
    "taught",
    [None, [], torch.ones(2), torch.full((7, 24), 0.5), torch.full((7, 24), torch.nan), torch.ones(7, 24).long()],
)
def test_another_state_is_refused(tiny, taught):
    lessons, _ = lessons_of(tiny)
    with pytest.raises(ValueError, match="what proposals teach"):
        lessons.load_state_dict({"taught": taught})
    assert not lessons.taught.any()


# Flags


@pytest.mark.parametrize(
    "flags",
    [
        ["--short_videos", "keep", "--w_self", "1"],
        ["--dataset", "activitynet1.3", "--w_self", "1"],
        ["--recipe", "stable", "--short_videos", "keep"],
    ],
)
def test_videos_that_keep_their_length_are_refused(tiny, refused_with, flags):
    assert "--short_videos keep: " in refused_with(tiny.path, *flags)


def test_a_model_that_learnt_by_proposals_may_keep_lengths_in_test(tiny, run, refused_with, tmp_path):
    """Nothing is taught there; a run of a queue is training."""
    assert run(tiny.path, "--exp_name", "x", *FLAGS).code == 0
    keep = ("--short_videos", "keep")
    assert run(tiny.path, "--exp_name", "x", "--inference_only", *keep).code == 0
    stated = json.loads((tmp_path / "out" / "x" / "inference" / "results.json").read_text())["options"]
    assert (stated["short_videos"], stated["w_self"]) == ("keep", 1.0)
    model = str(tmp_path / "out" / "x" / "best.pt")
    predict = ("--predict", str(tiny.path), "--model_file", model, "--out", str(tmp_path / "p"))
    assert main.main([*predict, *keep, "--device", "cpu", "--no-write_report"]) == 0
    with pytest.raises(InputError, match="--short_videos keep"):
        make_job("y", tmp_path, {"short_videos": "keep", "w_self": 1.0})


@pytest.mark.parametrize("name", ["self_from", "self_rounds", "self_density", "self_fuse", "self_border", "self_whole"])
def test_what_rounds_read_is_refused_where_there_are_none(tiny, refused_with, name):
    said = f"--{name} is only read with --w_self above 0"
    typed = parse_flags([f"--{name}", *{"self_rounds": ["1"], "self_whole": []}.get(name, ["0.5"])])
    with pytest.raises(InputError, match=said):
        check_training(typed, resolve(typed))
    check_training(typed, resolve({**typed, "recipe": "stable"}))
    assert said in refused_with(tiny.path, *map(str, as_words(typed)))


# Runs


def saved_lessons(tmp_path, name):
    return load(tmp_path, name).training["lessons"]["taught"]


@pytest.mark.parametrize("step", [3, 4, 5, 8])  # 4: a round begins with the step that comes then
@pytest.mark.parametrize(
    "flags", [[], ["--no_mask", "--teacher_decay=0.9", "--lr_schedule=cosine"]], ids=["", "stable"]
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tiny, run, tmp_path, monkeypatch, step, flags):
    flags = [*FLAGS, *flags]
    assert run(tiny.path, "--exp_name", "whole", "--keep_state", *flags).code == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        assert run(tiny.path, "--exp_name", "parts", "--keep_state", *flags).code == 1
    assert saved_lessons(tmp_path, "parts").any() == (step > 4)
    assert run(tiny.path, "--exp_name", "parts", "--resume", *flags).code == 0
    whole, parts = load(tmp_path, "whole"), load(tmp_path, "parts")
    assert_same(whole.model, parts.model)
    assert_same(whole.training, parts.training)
    assert saved_lessons(tmp_path, "parts").any()


@pytest.mark.parametrize("begin", ["0", "0.5"])
def test_an_interrupt_leaves_a_round_at_once(tiny, run, tmp_path, monkeypatch, begin):
    flags = [*FLAGS, "--keep_state", "--self_from", begin]
    assert run(tiny.path, "--exp_name", "whole", *flags).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(ProposalLessons, "_make", lambda _: os.kill(os.getpid(), signal.SIGINT))
        outcome = run(tiny.path, "--exp_name", "parts", *flags)
    step = int(12 * float(begin))
    assert outcome.code == 1 and f"interrupted at step {step} of 12; continue with --resume" in outcome.err
    assert load(tmp_path, "parts").training["step"] == step
    assert run(tiny.path, "--exp_name", "parts", "--resume", *flags).code == 0
    assert_same(load(tmp_path, "whole").model, load(tmp_path, "parts").model)


def test_data_that_vanish_in_a_round_end_it_saved(tiny, run, tmp_path, monkeypatch):
    def vanish(_):
        raise FileNotFoundError(2, "No such file or directory", "train_3.npy")

    with monkeypatch.context() as patch:
        patch.setattr(ProposalLessons, "_make", vanish)
        outcome = run(tiny.path, "--exp_name", "x", *FLAGS)
    assert outcome.code == 2 and "train_3.npy: No such file or directory; saved at step 4" in outcome.err
    assert load(tmp_path, "x").training["step"] == 4
    assert run(tiny.path, "--exp_name", "x", "--resume", *FLAGS).code == 0


def test_a_round_is_training_time(tiny, run, tmp_path, monkeypatch):
    make, slow = ProposalLessons._make, 0.2

    def slowly(self):
        time.sleep(slow)
        return make(self)

    monkeypatch.setattr(ProposalLessons, "_make", slowly)
    assert run(tiny.path, "--exp_name", "x", *FLAGS).code == 0
    assert load(tmp_path, "x").training["seconds"]["training"] > 3 * slow


def test_a_lengthened_run_says_that_its_rounds_move(tiny, run, tmp_path):
    assert run(tiny.path, "--exp_name", "x", *FLAGS).code == 0
    outcome = run(tiny.path, "--exp_name", "x", "--resume", "--num_epochs", "4", *FLAGS)
    said = "the rounds of self-training were those of 12 steps, and are now those of 16"
    assert outcome.code == 0 and said in outcome.out
    results = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    assert any(said in note for note in results["changed"])


def test_a_run_goes_on_as_it_began(tiny, run, refused_with):
    assert run(tiny.path, "--exp_name", "x", *FLAGS).code == 0
    line = refused_with(tiny.path, "--exp_name", "x", "--resume", "--num_epochs", "4", FLAGS[0], "--w_self", "0")
    assert "--w_self is 0.0, the experiment has 1.0" in line


def test_an_older_run_of_stable_goes_on_as_it_was():
    """It fused proposals, and its options know no borders."""
    older = {**RECIPES["stable"], "recipe": "stable", "num_segments": 24, "self_fuse": 0.5}
    rules = resolve({}, older).self_training
    assert (rules.self_fuse, rules.self_border, rules.self_whole) == (0.5, 0, False)
    assert resolve({"recipe": "stable"}).self_training.self_fuse == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("lessons"), "has no lessons"),
        (lambda state: state["lessons"].pop("taught"), "self-training has no taught"),
        (lambda state: state["lessons"].update(taught=torch.ones(3, 24)), "[3, 24], expected float32 [7, 24]"),
        (lambda state: state["lessons"]["taught"].fill_(0.5), "values besides -1, 0 and 1"),
    ],
    ids=["missing", "empty", "of others", "no lessons"],
)
def test_lessons_that_are_damaged_are_one_line(tiny, run, refused_with, tmp_path, change, said):
    assert run(tiny.path, "--exp_name", "x", *FLAGS).code == 0
    path = tmp_path / "out" / "x" / "last.pt"
    content = torch.load(path, weights_only=True)
    change(content["training"])
    torch.save(content, path)
    line = refused_with(tiny.path, "--exp_name", "x", "--resume", "--num_epochs", "4", *FLAGS)
    assert "last.pt: its training state is damaged" in line and said in line


def test_held_out_videos_are_not_taught(tiny, run, tmp_path):
    assert run(tiny.path, "--exp_name", "x", "--select", "val", "--val_share", "0.3", *FLAGS).code == 0
    assert len(saved_lessons(tmp_path, "x")) == 5


@pytest.mark.parametrize(
    "flags",
    [
        ["--precision", "bf16"],
        ["--modal", "rgb"],
        ["--no_actionness"],
        ["--cache", "mmap"],
        ["--self_from", "0", "--self_rounds", "40"],
    ],
    ids=" ".join,
)
def test_runs_in_other_ways(tiny, run, tmp_path, flags):
    assert run(tiny.path, "--exp_name", "x", "--w_self", "1", *flags).code == 0
    assert all(value.isfinite().all() for value in load(tmp_path, "x").model.values())
    assert saved_lessons(tmp_path, "x").any()


def test_a_step_moves_the_classes_alone():
    """Lessons reach the network by its cas."""
    options = resolve({**SMALL, "dropout": 0.0})
    moved = []
    for taught in (torch.zeros(2, 24, 3), torch.ones(2, 24, 3)):
        objective, optimizer = build_training(build_model(options, 3), options, torch.device("cpu"))
        batch = build_batch(torch.rand(2, 24, 12, generator=torch.Generator().manual_seed(1)), torch.eye(3)[:2])
        train_step(objective, optimizer, batch._replace(taught=taught))
        moved.append(dict(objective.model.named_parameters()))
    differs = {name for name in moved[0] if not torch.equal(moved[0][name], moved[1][name])}
    assert "snippet_classifier.weight" in differs and not any("video_classifier" in name for name in differs)
