"""data_tools.prepare and what people give it: tables of any program, splits in three, videos without labels, turned arrays."""

import codecs
import json
import shlex

import numpy as np
import pytest
from support.paths import ROOT
from support.tiny import CLASSES, FEATURE_SIZE, load_tiny_set

import main
from data_tools import prepare
from data_tools.next_command import next_command, training_command
from data_tools.recipe import SetProfile, recipe_for, training_length
from options import parse_flags, resolve

ROWS = [f"v{i},{CLASSES[i % 3]}" for i in range(7)]


@pytest.fixture
def own(tmp_path):
    """Features of seven videos v0 .. v6, two streams."""
    generator = np.random.default_rng(0)
    for stream in ("rgb", "flow"):
        (tmp_path / "features" / stream).mkdir(parents=True)
        for i in range(7):
            np.save(tmp_path / "features" / stream / f"v{i}.npy", generator.random((30 + i, FEATURE_SIZE), np.float32))
    return tmp_path


@pytest.fixture
def prepared(own, capsys):
    """prepared(table, *flags): run data_tools.prepare; exit code, lines of stdout, lines of stderr."""

    def call(table, *flags, features=None):
        (own / "labels.csv").write_bytes(table if isinstance(table, bytes) else "\n".join(table).encode())
        places = ["--features", features or own / "features", "--labels", own / "labels.csv", "--out", own / "my data"]
        capsys.readouterr()
        code = prepare.main([*map(str, places), *flags])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return call


# Tables


@pytest.mark.parametrize(
    "table",
    [
        "\n".join(["video;label", *ROWS]).replace(",", ";").encode(),
        "\n".join(["video,label", *ROWS]).replace(",", "\t").encode(),
        "\r\n".join(["video,label", *ROWS, ""]).encode(),
        "\n".join(["video,label", *ROWS]).encode("utf-8-sig"),
        "\r\n".join(["video,label", *ROWS]).replace(",", "\t").encode("utf-16"),
        codecs.BOM_UTF16_BE + "\n".join(["video,label", *ROWS]).encode("utf-16-be"),
        "\n".join(["video;label", *ROWS]).replace(",", ";").encode("utf-16-le"),
        "\n".join(["sep=;", "Video;Label", *ROWS]).replace(",", ";").encode(),
        "\n".join([" Video Name , Class,,", *(f"{row},," for row in ROWS)]).encode(),
        "\n".join(['"video-id","Labels"', *ROWS]).encode(),
    ],
    ids=["semicolons", "tabs", "CRLF", "UTF-8 mark", "UTF-16", "UTF-16 BE", "no mark", "Excel", "names", "quotes"],
)
def test_tables_of_any_program(prepared, own, table):
    code, _, err = prepared(table)
    assert (code, err) == (0, [])
    data = load_tiny_set(own / "my data")
    assert {v.video_id: data.annotations[v.video_id].labels for v in data.videos} == {
        f"v{i}": {CLASSES[i % 3]} for i in range(7)
    }


def segments_of(own, table):
    (own / "segments.csv").write_text("\n".join(table))
    return ["--annotations", str(own / "segments.csv")]


def test_decimal_commas_where_semicolons_separate(prepared, own):
    """As spreadsheets write tables in half of the world."""
    table = ["video;label;start;end", "v0;Dive;1,5;2,25", "v0;Dive;3;4.5"]
    code, _, err = prepared(["video,label,subset", "v0,Dive,test", "v3,Dive,train"], *segments_of(own, table))
    assert code == 0, err
    database = json.loads((own / "my data" / "gt.json").read_text())["database"]
    assert [note["segment"] for note in database["v0"]["annotations"]] == [[1.5, 2.25], [3, 4.5]]
    for wrong in (["video\tlabel\tstart\tend", "v0\tDive\t1,500\t2,500"], ["video;label;start;end", "v0;Dive;1,5,0;2"]):
        code, _, err = prepared(["video,label", *ROWS], *segments_of(own, wrong))
        assert code == 2 and "is not [start, end] in seconds" in err[-1]


def test_a_segment_with_another_spelling_names_both(prepared, own):
    code, _, err = prepared(["video,label", *ROWS], *segments_of(own, ["video,label,start,end", "v0,dive,1,2"]))
    assert code == 2 and "'dive'" in err[-1] and "(is it 'Dive'?)" in err[-1]


def test_several_labels_in_a_table_with_semicolons(prepared, own):
    rows = [row.replace(",", ";") for row in ROWS]
    assert prepared(["video;label", *rows, '"v0";"Jump;Throw"'])[0] == 0
    assert load_tiny_set(own / "my data").annotations["v0"].labels == set(CLASSES)
    assert "put names with a semicolon in double quotes" in prepared(["video;label", *rows, "v0;Jump;Throw"])[2][-1]


def test_all_wrong_lines_are_listed(prepared, own):
    rows = ["v0,Dive,train", "v1,Dive,holdout", "v2,Dive", ",Dive,train", "v0,Jump,test", "v3,Dive;Dive,test"]
    code, out, err = prepared(["video,label,subset", *rows])
    assert (code, out) == (2, []) and len(err) == 5
    assert err[-1].startswith("data_tools.prepare: error: ") and err[-1].endswith("(and 4 more, above)")
    for i, line in enumerate((3, 4, 5, 6, 7)):
        assert f"line {line}: " in [err[-1], *err[:-1]][i]
    assert not (own / "my data").exists()


@pytest.mark.parametrize(
    "table",
    [
        b"",
        b"\xff\xfe",
        b"\xff\xfea",
        b"\0",
        b"video,label\nv\xe9,x",
        b"video," + b"x" * 200_000,
        b"video,label\n" + b"x" * 200_000,
        b"\n\n",
        b"sep=,",
        b"\x1b[31m,x\n1,2",
    ],
)
def test_what_is_no_table_is_one_line(prepared, own, table):
    code, out, err = prepared(table)
    assert (code, out) == (2, []) and len(err) == 1 and str(own / "labels.csv") in err[0] and len(err[0]) < 500


def test_missing_features_are_listed(prepared):
    code, _, err = prepared(["video,label", *(f"w{i},Dive" for i in range(30))])
    assert code == 2 and len(err) == 11 and "no features for video 'w0'" in err[-1] and "and 20 more" in err[-2]


@pytest.mark.parametrize("spelled", ["{}.mp4", "videos/{}.mp4"])
def test_features_under_another_name_are_named(prepared, spelled):
    code, _, err = prepared(["video,label", *(f"{spelled.format(row.split(',')[0])},Dive" for row in ROWS)])
    assert (
        code == 2
        and f"no features for video '{spelled.format('v0')}'" in err[-1]
        and "there are some of 'v0'" in err[-1]
    )


def test_missing_features_say_what_is_there(prepared):
    code, _, err = prepared(["video,label", "w0,Dive", *ROWS])
    assert code == 2 and "it has 'v0', 'v1', 'v2' and 4 more" in err[-1]


def shorten(own, video, count):
    file = own / "features" / "flow" / f"{video}.npy"
    np.save(file, np.load(file)[:-count])


def test_streams_that_were_cut_are_said(prepared, own):
    shorten(own, "v1", 1)
    code, out, _ = prepared(["video,label", *ROWS])
    assert code == 0 and "streams that differ by 1 or 2 snippets, cut to the shorter: 1 video, such as 'v1'" in out


def test_skipping_never_empties_a_split(prepared, own):
    shorten(own, "v1", 5)
    code, _, err = prepared(["video,label,subset", "v0,Dive,train", "v1,Dive,test"], "--skip_unusable")
    assert code == 2 and "no test video is left" in err[-1]


def test_missing_features_can_be_skipped(prepared):
    code, out, _ = prepared(["video,label", "w0,Dive", *ROWS], "--skip_unusable")
    assert code == 0 and "left out, missing features: 1, such as 'w0'" in out
    code, _, err = prepared(["video,label", "w0,Dive"], "--skip_unusable")
    assert code == 2 and "no features for video 'w0'" in err[-1]


def test_streams_of_different_length_can_be_skipped(prepared, own):
    shorten(own, "v1", 5)
    table = ["video,label", *ROWS]
    code, _, err = prepared(table)
    assert code == 2 and "--skip_unusable" in err[-1]
    code, out, err = prepared(table, "--skip_unusable")
    assert (code, err) == (0, []) and "left out, streams of different length: 1, such as 'v1'" in out
    names = [
        line for split in ("train", "test") for line in (own / "my data" / f"split_{split}.txt").read_text().split()
    ]
    assert sorted(names) == ["v0", "v2", "v3", "v4", "v5", "v6"]


@pytest.mark.parametrize("label", ["Di\x1b[31mve", "Di\x00ve", '"Di\nve"', "Di\x85ve"])
def test_control_characters_are_refused(prepared, label):
    code, _, err = prepared(["video,label", f"v0,{label}", *ROWS[1:]])
    assert code == 2 and "control character" in err[-1] and err[-1].isprintable()


def test_class_names_that_look_like_one(prepared):
    code, out, _ = prepared(["video,label", *ROWS, "v0,long jump", "v1,Long_Jump"])
    assert code == 0 and any("warning: 'Long_Jump' and 'long jump' are different classes" in line for line in out)


# Splits


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "VALIDATION", "Testing"), ("train", "valid", " test ")]
)
def test_three_labelled_subsets_are_refused(prepared, own, names):
    rows = [f"{row},{names[0 if i < 5 else i - 4]}" for i, row in enumerate(ROWS)]
    code, out, err = prepared(["video,label,subset", *rows])
    assert (code, out) == (2, []) and len(err) == 1 and not (own / "my data").exists()
    assert "validation and test videos are both labelled; say what to test on" in err[0]
    assert str(own / "labels.csv") in err[0]


@pytest.mark.parametrize(("unlabelled", "tested"), [("test", "v5"), ("val", "v6")])
def test_a_third_subset_without_labels_is_left_out_and_said(prepared, own, unlabelled, tested):
    rows = [f"{row},train" for row in ROWS[:5]]
    rows += [f"v5,{'' if unlabelled == 'val' else 'Dive'},val", f"v6,{'' if unlabelled == 'test' else 'Dive'},test"]
    tested = {"val": "v6", "test": "v5"}[unlabelled]
    code, out, _ = prepared(["video,label,subset", *rows])
    assert code == 0 and any(line.startswith("left out: 1 video of subset ") for line in out)
    assert [video.video_id for video in load_tiny_set(own / "my data").test] == [tested]


def test_a_label_that_only_test_videos_have_is_said(prepared):
    code, out, _ = prepared(["video,label,subset", *(f"{row},train" for row in ROWS[:6]), "v6,Jmup,test"])
    assert code == 0
    assert next(line for line in out if line.startswith("next: ")).endswith(" --skip_unusable")
    assert "warning: test videos have the label 'Jmup', which no training video has (is it 'Jump'?)" in out


@pytest.mark.parametrize(
    "table",
    [
        ["video,label,subset", "v0,,test", "v1,,test"],
        ["video,label", "v0,", "v1,"],
        ["video,label,subset", "v0,Dive,test", "v1,,test"],
    ],
    ids=["test", "no subsets", "labelled"],
)
def test_videos_for_inference_alone(prepared, own, table):
    code, out, err = prepared(table)
    assert (code, err) == (0, []) and "2 videos for inference alone" in out[0]
    assert f"next: bash scripts/inference.sh --data_path '{own / 'my data'}'" in out or ROOT not in own.parents
    assert not (own / "my data" / "split_train.txt").exists()
    assert (own / "my data" / "split_test.txt").read_text() == "v0\nv1\n"


# Arrays


@pytest.mark.parametrize(
    "shapes",
    [
        [(256, 20)] * 4,
        [(256, 19), (256, 21), (256, 23), (256, 25)],
        [(256, 20), (256, 22), (256, 20), (256, 22)],
        [(2048, 100)] * 4,
        [(100, 30), (100, 31), (100, 40), (100, 12)],
    ],
)
@pytest.mark.parametrize("folders", [False, True], ids=["joint", "two streams"])
def test_turned_arrays_are_refused(prepared, own, tmp_path, shapes, folders):
    for i, shape in enumerate(shapes):
        for folder in ("rgb", "flow") if folders else (".",):
            (own / "turned" / folder).mkdir(parents=True, exist_ok=True)
            np.save(own / "turned" / folder / f"v{i}.npy", np.ones(shape, np.float32))
    code, _, err = prepared(["video,label", *(f"v{i},Dive" for i in range(4))], features=own / "turned")
    assert (
        code == 2 and "transposed" in err[-1] and "[snippets, channels]" in err[-1] and not (own / "my data").exists()
    )


@pytest.mark.parametrize("shape", [(20, 2048), (100, 100), (30, 12), (750, 24)])
def test_arrays_of_one_length_are_fine(prepared, own, shape):
    (own / "same").mkdir()
    for i in range(4):
        np.save(own / "same" / f"v{i}.npy", np.ones(shape, np.float32))
    assert prepared(["video,label", *(f"v{i},Dive" for i in range(4))], features=own / "same")[0] == 0


def test_turned_or_not_the_user_may_know_better(prepared, own):
    (own / "narrow").mkdir()
    for i in range(4):
        np.save(own / "narrow" / f"v{i}.npy", np.ones((256, 20), np.float32))
    table = ["video,label", *(f"v{i},Dive" for i in range(4))]
    assert "give --feature_size" in prepared(table, features=own / "narrow")[2][-1]
    assert prepared(table, "--feature_size", "10", features=own / "narrow")[0] == 0


# The next command


def flags_of(line):
    assert line.startswith("next: bash ")
    return shlex.split(line)[3:]


def test_the_next_command_trains_as_it_stands(prepared, own, capsys):
    _, out, _ = prepared(["video,label", *ROWS], "--modal", "rgb", "--fps", "30")
    (line,) = (line for line in out if line.startswith("next: "))
    flags = flags_of(line)
    assert {"--modal", "--fps", "--recipe", "--num_segments", "--lr", "--num_epochs", "--feature_size"} < set(flags)
    assert flags[flags.index("--recipe") + 1] == "stable"
    small = ["--hidden_size", "8", "--num_epochs", "1", "--device", "cpu", "--output_dir", str(own / "out")]
    small += ["--exp_name", "x"]
    assert main.main([*flags, *small]) == 0, capsys.readouterr().err
    saved = json.loads((own / "out" / "x" / "options.json").read_text())
    assert str(saved["num_segments"]) == flags[flags.index("--num_segments") + 1]
    assert main.main([*flags, "--check_data"]) == 0, capsys.readouterr().out


def profile(lengths, *, classes=3, feature_size=1024):
    return SetProfile(
        lengths=tuple(lengths),
        num_classes=classes,
        classes_per_video=1.0,
        snippet_seconds=0.64,
        feature_size=feature_size,
        streams=("rgb", "flow"),
    )


def test_the_next_command_says_which_recipe_and_why():
    text = next_command(ROOT, profile=profile([48] * 475), flags={"modal": "rgb"}, skip=True)
    line, why, seconds = text.splitlines()
    lr, epochs = training_length(238)
    expected = {"recipe": "stable", "num_segments": 48, "lr": lr, "num_epochs": epochs, "detection_inf_step": 238}
    expected |= {"hidden_size": 64, "class_th": 0.15}
    assert parse_flags(flags_of(line)) == {"data_path": str(ROOT), "modal": "rgb", "skip_unusable": True, **expected}
    assert "475 training videos" in why and "T = 48" in why and "--fps" in seconds


def test_the_next_command_for_a_set_like_thumos14_is_the_published_one():
    line, why, _ = next_command(ROOT, profile=profile([696] * 200, classes=20), flags={}).splitlines()
    assert resolve(parse_flags(flags_of(line))) == resolve({"data_path": str(ROOT)})
    assert "THUMOS'14" in why


@pytest.mark.parametrize(("train", "command"), [(True, "sal-train"), (False, "sal-train --inference_only")])
def test_an_installation_has_commands_in_place_of_scripts(monkeypatch, tmp_path, train, command):
    monkeypatch.setattr("data_tools.next_command.SCRIPTS", tmp_path)
    line = next_command(ROOT, profile=profile([50, 50]) if train else None, flags={})
    assert line.startswith(f"next: {command} --data_path ")


@pytest.mark.parametrize(
    "flags",
    [
        {"data_path": "a b", "soft_nms": False, "average_tious": ["0.1:0.5", "0.3:0.7"], "no_mixup": True},
        {"data_path": "-x", "min_score": -1.0, "exp_name": "it's"},
    ],
)
def test_a_command_for_training_says_every_typed_flag(flags):
    taken = recipe_for(profile([50] * 3), {"recipe": "stable", **flags})
    words = shlex.split(training_command(flags, taken))[3:]
    assert parse_flags(words) == {**flags, "recipe": "stable", **taken.fitted}


def test_all_unusable_features_are_listed(prepared, own):
    for i in (1, 3, 4):
        np.save(own / "features" / "rgb" / f"v{i}.npy", np.ones((9, FEATURE_SIZE + i), np.float32))
    (own / "features" / "flow" / "v6.npy").write_bytes(b"no array")
    code, _, err = prepared(["video,label", *ROWS])
    assert code == 2 and len(err) == 4 and err[-1].endswith("(and 3 more, above)")
    assert all(any(f"v{i}.npy: " in line for line in err) for i in (1, 3, 4, 6))
