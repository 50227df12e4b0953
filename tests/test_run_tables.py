"""Tables of runs: what is one method, means and deviations, the best in bold, names that mean something to a format."""

import csv
import io
import json

import numpy as np
import pytest

from eval.__main__ import main
from eval.run_tables import cells_of, table_of
from eval.table_markup import escape_latex, escape_markdown
from eval.table_runs import TableRun, methods, read_table_run

CLASSES = ("Jump", "Dive")


def write_run(folder, *, seed=0, last=0.4, best=None, tious=("0.3", "0.5"), data="set", **options):
    """A results.json whose mAP is `last` at the first tIoU and a tenth less at each next."""

    def evaluation(value):
        by_tiou = {name: round(value - 0.1 * i, 6) for i, name in enumerate(tious)}
        average = {f"{tious[0]}:{tious[-1]}": float(np.mean(list(by_tiou.values())))}
        per_class = {name: dict(by_tiou) for name in CLASSES}
        return {"mAP": by_tiou, "average_mAP": average, "video_accuracy": None, "per_class_AP": per_class}

    folder.mkdir(parents=True)
    content = {
        "best": {"step": 4, "epoch": 2, **evaluation(last if best is None else best)},
        "last": {"step": 8, "epoch": 4, **evaluation(last)},
        "history": [],
        "options": {"seed": seed, "lr": 0.1, "exp_name": folder.name, **options},
        "data": {"name": data, "path": f"/somewhere/{data}"},
    }
    (folder / "results.json").write_text(json.dumps(content))
    return folder


def tables(capsys, *arguments):
    code = main(["tables", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def folders(tmp_path):
    """Three seeds of one method, two of another."""
    values = {"a-seed0": 0.40, "a-seed1": 0.44, "a-seed2": 0.42, "b-seed0": 0.41, "b-seed2": 0.45}
    return [
        write_run(tmp_path / name, seed=int(name[-1]), last=value, lr=0.1 if name[0] == "a" else 0.2)
        for name, value in values.items()
    ]


def test_runs_that_differ_in_the_seed_alone_are_one_method(folders):
    runs = [read_table_run(folder) for folder in folders]
    assert {name: [run.seed for run in members] for name, members in methods(runs).items()} == {
        "a": [0, 1, 2],
        "b": [0, 2],
    }
    frame = table_of(methods(runs), which=("last",))
    assert list(frame.columns[:6]) == ["method", "evaluation", "runs", "mean detections", "0.3", "0.3 sd"]
    first, second = frame.to_dict("records")
    assert (first["method"], first["runs"], second["method"], second["runs"]) == ("a", 3, "b", 2)
    assert first["0.3"] == pytest.approx(0.42) and first["0.3 sd"] == pytest.approx(0.02)
    assert second["0.3"] == pytest.approx(0.43) and second["0.3 sd"] == pytest.approx(np.sqrt(2) * 0.02)
    assert first["avg 0.3:0.5"] == pytest.approx(0.37)


def test_flags_of_a_call_make_no_method(tmp_path):
    one = write_run(tmp_path / "x", seed=0, device="cpu", threads=1, num_workers=2)
    other = write_run(tmp_path / "y", seed=1, device="cuda", threads=8, num_workers=0)
    assert len(methods([read_table_run(one), read_table_run(other)])) == 1


def table_run(name, seed, *, inference=False):
    evaluation = "inference" if inference else "last"
    measures = {evaluation: {"0.5": 0.5}}
    return TableRun(name=name, seed=seed, data="set", options="{}", measures=measures, classes=(), compared={})


@pytest.mark.parametrize(
    ("names", "method"),
    [
        ({"thumos-0": 0, "thumos-1": 1}, "thumos"),
        ({"b-seed10": 10, "b-seed11": 11, "b-seed12": 12}, "b"),
        ({"m-10": 10, "m-11": 11}, "m"),
        ({"run-01": 5, "run-02": 6}, "run"),  # not the seeds, but what differs
        ({"c-seed1": 5, "c-seed2": 6}, "c"),
        ({"A-Seed0": 0, "A-Seed1": 1}, "A"),
        ({"a_s0": 0, "a_s1": 1}, "a"),
        ({"a seed 3": 3, "a seed 4": 4}, "a"),
        ({"thumos14-0": 0, "thumos14-1": 1}, "thumos14"),
        ({"thumos14": 0, "thumos14-seed1": 1}, "thumos14"),
        ({"thumos14": 0, "thumos15": 1}, "thumos"),
        ({"seed0": 0, "seed1": 1}, "seed"),
        ({"pass-a": 0, "path-b": 1}, "pass-a"),
        ({"lr-1-old": 0, "lr-10-old": 1}, "lr"),
        ({"-0": 0, "-1": 1}, "-0"),
        ({"7": 7, "8": 8}, "7"),
        ({"x-2": 2}, "x-2"),
    ],
)
def test_a_method_has_its_runs_name_without_their_seeds(names, method):
    assert list(methods([table_run(name, seed) for name, seed in names.items()])) == [method]


def test_a_number_that_all_runs_have_is_no_seed():
    assert list(methods([table_run("w-10", seed) for seed in (0, 1)])) == ["w-10"]


def test_inferences_are_a_method_of_their_own():
    trained = [table_run(f"a-{seed}", seed) for seed in (0, 1)]
    inferred = [table_run(f"a-{seed}/inference", seed, inference=True) for seed in (0, 1)]
    assert methods([*trained, *inferred]) == {"a": trained, "a/inference": inferred}


def test_the_same_seed_twice_is_two_methods(tmp_path):
    runs = [read_table_run(write_run(tmp_path / name / "run", seed=3)) for name in "xy"]
    assert {name: len(members) for name, members in methods(runs).items()} == {"run": 1, "run'": 1}


def variant(path, name, seeds, **options):
    return [read_table_run(write_run(path / f"{name}-seed{seed}", seed=seed, **options)) for seed in seeds]


def parts_of(runs):
    return {name: [(run.name, run.seed) for run in members] for name, members in methods(runs).items()}


def test_runs_of_one_seed_are_apart_by_the_flag_that_differs(tmp_path, capsys):
    values = {("test", 0): 0.40, ("test", 1): 0.44, ("last", 0): 0.41, ("last", 1): 0.43}
    folders = [
        write_run(tmp_path / f"select={select}-seed{seed}", seed=seed, last=value, select=select, num_workers=seed)
        for (select, seed), value in values.items()
    ]
    _, out, err = tables(capsys, *folders, "--format", "markdown", "--which", "last")
    assert "| select=test | last | 2 |  | **42.0** ± 2.8 |" in out
    assert "| select=last | last | 2 |  | **42.0** ± 1.4 |" in out
    assert "one run" not in err and "select=last - select=test, last: +0.00 [" in err


@pytest.mark.parametrize(
    "options",
    [{"threads": 8}, {"cache": "disk"}, {"deterministic": True}, {"device": "cuda"}, {"output_dir": "elsewhere"}],
)
def test_any_flag_that_makes_no_method_may_tell_them_apart(tmp_path, options):
    runs = variant(tmp_path, "a", (0, 1)) + variant(tmp_path, "b", (0, 1, 2), **options)
    assert {name: len(members) for name, members in methods(runs).items()} == {"a": 2, "b": 3}


def test_a_flag_that_tells_no_runs_of_one_seed_apart_is_ignored(tmp_path):
    """Three variants of two flags, on machines with other threads for every seed."""
    runs = [
        run
        for seed in (0, 1)
        for name, flags in (("x", {}), ("y", {"select": "last"}), ("z", {"select": "last", "deterministic": True}))
        for run in variant(tmp_path, name, [seed], threads=2 + seed, **flags)
    ]
    assert parts_of(runs) == {name: [(f"{name}-seed{seed}", seed) for seed in (0, 1)] for name in "xyz"}


def test_variants_of_one_name_are_called_by_what_differs(tmp_path):
    runs = variant(tmp_path / "1", "a", (0, 1), threads=1) + variant(tmp_path / "2", "a", (0, 1), threads=8)
    assert list(parts_of(runs)) == ["a", "a (threads=8)"]


def test_what_nothing_tells_apart_leaves_the_other_variants_whole(tmp_path):
    runs = variant(tmp_path, "a", (0, 1)) + variant(tmp_path, "b", (0, 1), select="last")
    again = variant(tmp_path / "again", "a", (1,))
    assert [len(members) for members in methods(runs + again).values()] == [1, 1, 1, 2]


def test_markdown(folders, capsys):
    code, out, err = tables(capsys, *folders, "--format", "markdown", "--which", "last")
    assert code == 0
    assert out.splitlines() == [
        "mAP by protocol sal, data set, 2 classes, in percent",
        "",
        "| method | evaluation | runs | mean detections | 0.3 | 0.5 | avg 0.3:0.5 |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| a | last | 3 |  | 42.0 ± 2.0 | 32.0 ± 2.0 | 37.0 ± 2.0 |",
        "| b | last | 2 |  | **43.0** ± 2.8 | **33.0** ± 2.8 | **38.0** ± 2.8 |",
    ]
    notes = err.splitlines()
    # t is 4.303 and 12.706 with 2 and 1 degrees of freedom; the paired differences are 1 and 3.
    assert notes[0].startswith("note: a-seed0, a-seed1, a-seed2, b-seed0, b-seed2: state no videos, instances and det")
    assert notes[1] == "note: intervals are of avg 0.3:0.5, 95%, by Student's t"
    assert notes[2] == "note: a, last: 37.00 [32.03, 41.97] over 3 seeds"
    assert notes[3] == "note: b, last: 38.00 [12.59, 63.41] over 2 seeds"
    assert notes[4] == "note: b - a, last: +2.00 [-10.71, +14.71] over 2 common seeds"
    assert len(notes) == 5


def test_latex(folders, capsys):
    _, out, _ = tables(capsys, *folders, "--format", "latex", "--which", "last")
    lines = out.splitlines()
    assert lines[:5] == [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\caption{mAP by protocol sal, data set, 2 classes, in percent}",
        r"\begin{tabular}{llrrrrr}",
    ]
    assert lines[6] == r"method & evaluation & runs & mean detections & 0.3 & 0.5 & avg 0.3:0.5 \\"
    assert (
        lines[9] == r"b & last & 2 &  & \textbf{43.0} $\pm$ 2.8 & \textbf{33.0} $\pm$ 2.8 & \textbf{38.0} $\pm$ 2.8 \\"
    )
    assert lines[-2:] == [r"\end{tabular}", r"\end{table}"]


def test_csv_has_all_digits(folders, capsys):
    _, out, _ = tables(capsys, *folders, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["method"], row["evaluation"]) for row in rows] == [
        ("a", "best"),
        ("a", "last"),
        ("b", "best"),
        ("b", "last"),
    ]
    assert float(rows[3]["0.3 sd"]) == pytest.approx(np.sqrt(2) * 0.02, abs=1e-15)
    assert rows[0]["about"] == "mAP by protocol sal, data set, 2 classes, as fractions"


def test_the_differences_of_many_methods_are_not_listed(tmp_path, capsys):
    folders = [
        write_run(tmp_path / f"m{method}-seed{seed}", seed=seed, lr=0.1 + method, last=0.4 + 0.01 * method)
        for method in range(7)
        for seed in range(2)
    ]
    _, six, _ = tables(capsys, *folders[:12])
    _, seven, _ = tables(capsys, *folders)
    assert six.count("common seed") == 2 * 6 * 5 / 2 and seven.count("common seed") == 0
    assert "differences are of up to 6 methods" in seven and seven.count("over 2 seeds") == 14


def test_text_and_what_is_said_of_one_seed(tmp_path, capsys):
    one = write_run(tmp_path / "one", last=0.4, best=0.5)
    two = write_run(tmp_path / "two", last=0.5, best=0.5, lr=0.3)
    code, out, err = tables(capsys, one, two)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()[3:7]]
    assert [row[:5] for row in rows] == [
        ["one", "best", "1", "50.0*", "40.0*"],
        ["one", "last", "1", "40.0", "30.0"],
        ["two", "best", "1", "50.0*", "40.0*"],
        ["two", "last", "1", "50.0*", "40.0*"],
    ]
    assert "note: one, two: one run each, so no deviation and no interval; train them with other seeds too" in out
    assert out.endswith("note: best is chosen by its mAP on these very videos; compare methods by last\n")


def test_an_inference_is_a_run(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    results = json.loads((run / "results.json").read_text())
    (run / "inference").mkdir()
    plain = {**results["last"], "options": results["options"], "data": results["data"]}
    (run / "inference" / "results.json").write_text(json.dumps(plain))
    _, out, _ = tables(capsys, run / "inference", "--which", "last", "--format", "markdown")
    assert "| run/inference | inference | 1 |  | 40.0 | 30.0 | 35.0 |" in out


def test_a_run_and_its_own_inference_belong_in_one_table(tiny, run, tmp_path, capsys):
    assert run(tiny.path, "--exp_name", "x").code == 0
    assert run(tiny.path, "--exp_name", "x", "--inference_only").code == 0
    folder = tmp_path / "out" / "x"
    for runs in ([folder, folder / "inference"], [folder / "inference", folder]):
        code, out, err = tables(capsys, *runs, "--which", "best", "--format", "csv")
        assert code == 0 and "states no" not in err
        rows = {row["evaluation"]: row for row in csv.DictReader(io.StringIO(out))}
        assert rows["best"]["about"] == "mAP by protocol sal, 4 videos, 3 instances, data tiny, 3 classes, as fractions"
        assert rows["best"].pop("method") == "x" and rows["inference"].pop("method") == "x/inference"
        rows["best"].pop("evaluation"), rows["inference"].pop("evaluation")
        assert rows["best"] == rows["inference"]


def test_two_runs_are_of_other_classes_though_an_inference_states_none(tmp_path, capsys):
    inference, one, other = (write_run(tmp_path / name) for name in ("i", "one", "other"))
    results = json.loads((inference / "results.json").read_text())
    totals = {name: value for name, value in results["last"].items() if name != "per_class_AP"}
    (inference / "results.json").write_text(json.dumps({**totals, "data": results["data"]}))
    for name in ("best", "last"):
        changed = json.loads((other / "results.json").read_text())[name]
        damage(other, **{name: {**changed, "per_class_AP": {"Jump": changed["mAP"]}}})
    code, out, _ = tables(capsys, inference, one)
    assert code == 0 and out.startswith("mAP by protocol sal, data set, in percent")  # the inference may be of others
    code, _, err = tables(capsys, inference, one, other)
    assert code == 2 and "different data (data set, 2 classes; data set, 1 class)" in err


def test_the_best_of_an_evaluation_is_the_best_of_its_rows_alone(tmp_path):
    values = {"one": (0.5, 0.3), "two": (0.6, 0.2)}  # every best is above every last
    runs = [
        read_table_run(write_run(tmp_path / name, best=best, last=last, lr=best))
        for name, (best, last) in values.items()
    ]
    frame = table_of(methods(runs), which=("best", "last"))
    marked = [all(cell.is_best for cell in row) for row in cells_of(frame)]
    assert dict(zip(zip(frame["method"], frame["evaluation"], strict=True), marked, strict=True)) == {
        ("one", "best"): False,
        ("one", "last"): True,
        ("two", "best"): True,
        ("two", "last"): False,
    }


def test_every_evaluation_shown_has_its_intervals(folders, capsys):
    _, _, err = tables(capsys, *folders, "--format", "csv")
    for evaluation in ("best", "last"):
        assert f"note: a, {evaluation}: 37.00 [32.03, 41.97] over 3 seeds" in err
        assert f"note: b - a, {evaluation}: +2.00 [-10.71, +14.71] over 2 common seeds" in err


def test_inferences_have_intervals_of_their_own(tmp_path, capsys):
    for seed in (0, 1):
        results = json.loads((write_run(tmp_path / f"a-{seed}", seed=seed) / "results.json").read_text())
        (tmp_path / f"a-{seed}" / "inference").mkdir()
        inferred = {**results["last"], "options": results["options"], "data": results["data"]}
        (tmp_path / f"a-{seed}" / "inference" / "results.json").write_text(json.dumps(inferred))
    _, _, err = tables(capsys, *(tmp_path / f"a-{seed}" / "inference" for seed in (0, 1)), "--format", "csv")
    assert "note: a/inference, inference: 35.00 [35.00, 35.00] over 2 seeds" in err and ", last" not in err


def test_out_writes_the_table_alone(folders, tmp_path, capsys):
    code, out, _ = tables(capsys, *folders, "--format", "latex", "--out", tmp_path / "t.tex")
    assert code == 0 and out.startswith(f"{tmp_path / 't.tex'}: written\nnote: ")
    assert (tmp_path / "t.tex").read_text().endswith("\\end{table}\n")


def test_names_are_shown_as_they_are(tmp_path, capsys):
    name = r"50%_a|b<i>&$x#{~^\*"
    run = write_run(tmp_path / name)
    _, out, _ = tables(capsys, run, "--format", "markdown", "--which", "last")
    assert r"| 50%\_a\|b\<i\>\&\$x\#\{\~^\\\* | last |" in out
    _, out, _ = tables(capsys, run, "--format", "latex", "--which", "last")
    escaped = (
        r"50\%\_a\textbar{}b\textless{}i\textgreater{}\&\$x\#\{\textasciitilde{}\textasciicircum{}\textbackslash{}*"
    )
    assert f"{escaped} & last" in out
    assert escape_latex("a--b---c-d") == "a-{}-b-{}-{}-c-d"  # no dashes
    assert escape_markdown("plain 0.5 name") == escape_latex("plain 0.5 name") == "plain 0.5 name"
    _, out, _ = tables(capsys, run, "--format", "csv", "--which", "last")
    assert next(csv.DictReader(io.StringIO(out)))["method"] == name
    control = write_run(tmp_path / "a\x1b[2Jb\nc")
    for form in ("text", "markdown", "latex", "csv"):
        _, out, _ = tables(capsys, control, "--format", form, "--which", "last")
        assert "\x1b" not in out and r"x1b" in out.replace("\\textbackslash{}", "")


def test_the_videos_and_instances_are_named_and_must_be_the_same(tmp_path, capsys):
    one, two, old = (write_run(tmp_path / name, seed=seed) for seed, name in enumerate(("m-0", "m-1", "old")))
    damage(old, options={})  # of a version that stated neither those nor options
    for folder, detections in ((one, 11), (two, 14)):
        count(folder, videos=3, instances=5, detections=detections)
    code, out, err = tables(capsys, one, two, "--format", "latex", "--which", "last")
    assert code == 0 and "\\caption{mAP by protocol sal, 3 videos, 5 instances, data set, 2 classes, in percent}" in out
    assert "states no" not in err
    code, out, err = tables(capsys, old, one, two, "--format", "markdown", "--which", "last")
    assert code == 0 and out.startswith("mAP by protocol sal, data set, 2 classes, in percent\n")
    assert "note: old: states no videos, instances and detections" in err
    assert tables(capsys, two, old, "--format", "markdown")[1].startswith("mAP by protocol sal, data set, 2 classes")
    assert "| m | last | 2 | 12.5 | " in out and "| old | last | 1 |  | " in out
    count(two, videos=4, instances=5, detections=14)
    code, _, err = tables(capsys, old, one, two)
    assert code == 2 and "3 videos, 5 instances" in err and "4 videos, 5 instances" in err
    last = json.loads((two / "results.json").read_text())["last"]
    damage(one, last={**last, "compared": {"videos": 4, "instances": 5, "detections": 11}})  # resumed on other videos
    code, _, err = tables(capsys, one)
    assert code == 2 and f"{one}, best, and {one}, last, are of different data" in err
    assert [tables(capsys, one, "--which", which)[0] for which in ("best", "last")] == [0, 0]
    count(two, videos=True, instances=5, detections=14)
    code, _, err = tables(capsys, two)
    assert code == 2 and "best.compared, videos is True, not a count" in err


def test_detections_of_a_method_are_a_mean_of_all_its_runs_or_none(tmp_path):
    folders = [write_run(tmp_path / f"m-{seed}", seed=seed) for seed in (0, 1, 2)]
    for folder, detections in zip(folders, (10, 11, 12), strict=True):
        assert table_of(methods(list(map(read_table_run, folders))), which=("last",))["mean detections"].item() == ""
        count(folder, videos=3, instances=5, detections=detections)
    assert table_of(methods(list(map(read_table_run, folders))), which=("last",))["mean detections"].item() == "11"


def test_a_caption_shows_the_data_as_they_are_named(tmp_path, capsys):
    run = write_run(tmp_path / "run", data="50%_<a>\n|")
    _, out, _ = tables(capsys, run, "--format", "latex")
    assert (
        r"\caption{mAP by protocol sal, data 50\%\_\textless{}a\textgreater{} \textbar{}, 2 classes, in percent}" in out
    )
    _, out, _ = tables(capsys, run, "--format", "markdown")
    assert out.startswith(r"mAP by protocol sal, data 50%\_\<a\> \|, 2 classes, in percent")


def count(folder, **compared):
    """What its evaluations say that they are of."""
    results = json.loads((folder / "results.json").read_text())
    damage(folder, **{name: {**results[name], "compared": compared} for name in ("best", "last")})


def damage(folder, **changes):
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**results, **changes}))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path / "absent", "absent"),
        (lambda path: (path / "empty").mkdir() or path / "empty", "results.json"),
        (
            lambda path: write_run(path / "b", tious=("0.3", "0.7")),
            "different tIoUs (0.3, 0.5, avg 0.3:0.5 and 0.3, 0.7,",
        ),
        (
            lambda path: write_run(path / "b", data="other"),
            "different data (data set, 2 classes; data other, 2 classes)",
        ),
    ],
)
def test_what_belongs_in_no_table(tmp_path, capsys, make, says):
    good = write_run(tmp_path / "good")
    code, out, err = tables(capsys, good, make(tmp_path))
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1


def test_a_queues_folder_stands_for_its_runs(tmp_path, capsys):
    queue = tmp_path / "queue"
    for seed in (0, 1):
        write_run(queue / f"base-seed{seed}", seed=seed)
    (queue / "begun").mkdir()
    (queue / "logs").mkdir()
    alone, expected = tables(capsys, queue), tables(capsys, queue / "base-seed0", queue / "base-seed1")
    assert alone == expected and alone[0] == 0 and "base" in alone[1]
    assert tables(capsys, queue / "base-seed0", queue / "base-seed1", queue / "logs") == expected


def test_results_without_map_or_with_odd_names(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    nothing = {"step": 1, "epoch": 1, "mAP": None, "average_mAP": None, "video_accuracy": 0.5, "per_class_AP": None}
    damage(run, best=nothing, last=nothing)
    code, _, err = tables(capsys, run)
    assert code == 2 and "no annotated segments" in err
    odd = {**nothing, "mAP": {"method": 0.5}, "average_mAP": {}}
    damage(run, best=odd, last=odd)
    code, _, err = tables(capsys, run)
    assert code == 2 and "'method' is not a range of thresholds" in err and err.count("\n") == 1


def hold_out(folder, *, value, select="val"):
    """Make the run one with held-out videos, whose val has this mAP at the first tIoU."""
    results = json.loads((folder / "results.json").read_text())
    results["val"] = {**results["last"], "step": 6, "mAP": {"0.3": value, "0.5": value - 0.1}}
    results["options"] |= {"select": select, "val_share": 0.2}
    (folder / "results.json").write_text(json.dumps({**results, "select": select, "held_out": ["a"]}))


def test_val_is_a_row_of_the_runs_that_have_one(tmp_path, capsys):
    folders = [write_run(tmp_path / f"{name}-seed{seed}", seed=seed) for name in "ab" for seed in (0, 1)]
    for folder, value in zip(folders[:2], (0.3, 0.5), strict=True):
        hold_out(folder, value=value)
    code, out, _ = tables(capsys, *folders, "--format", "csv")
    rows = {(row["method"], row["evaluation"]): row for row in csv.DictReader(io.StringIO(out))}
    assert code == 0
    assert list(rows) == [(m, e) for m, es in (("a", ("best", "last", "val")), ("b", ("best", "last"))) for e in es]
    assert float(rows["a", "val"]["0.3"]) == pytest.approx(0.4)
    assert float(rows["a", "val"]["0.3 sd"]) == pytest.approx(0.02**0.5)
    text = tables(capsys, *folders)[1]
    assert "  val  " in text and "val is chosen by the loss on training videos" in text
    assert "  val  " not in tables(capsys, *folders, "--which", "both")[1]
    code, _, err = tables(capsys, *folders, "--which", "val")
    assert code == 2 and "b-seed0/results.json: has no val: train with --select val, or leave it out" in err


def test_what_keeps_another_model_of_the_same_training_is_the_same_method(tmp_path):
    """A file from before --select, and one each of test and last; val trains on other videos."""
    folders = [write_run(tmp_path / f"a-seed{seed}", seed=seed) for seed in range(4)]
    for folder, select in zip(folders[1:], ("test", "last", "val"), strict=True):
        options = {"seed": int(folder.name[-1]), "lr": 0.1, "exp_name": folder.name, "select": select, "val_share": 0.2}
        content = json.loads((folder / "results.json").read_text())
        (folder / "results.json").write_text(json.dumps({**content, "options": options}))
    found = methods([read_table_run(folder) for folder in folders])
    assert [[run.seed for run in members] for members in found.values()] == [[0, 1, 2], [3]]
