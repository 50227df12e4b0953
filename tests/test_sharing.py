"""main.py --predict --shard I/N: shares without a word between them, and the whole that is joined of them."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from support.disk import complaint, contents
from support.tiny import FEATURE_SIZE
from support.trained import write_tiny_model

import main
from command_line.shares import Share, parse_share
from run import predicting, sharing
from run.sharing import parts_of
from utils.atomic import locked
from utils.errors import InputError

VIDEOS = 11


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """A working folder with a model and the features of 11 videos in new/; here.predict(*flags) runs main.py --predict new."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sharing, "VIDEOS_AT_ONCE", 4)  # so that there are three parts
    generator = np.random.default_rng(0)
    (tmp_path / "new").mkdir()
    for i in generator.permutation(VIDEOS):  # the order of the folder is none
        length = int(generator.integers(5, 60))
        features = generator.random((length, 2 * FEATURE_SIZE)).astype(np.float32)
        np.save(tmp_path / "new" / f"v{i:02}.npy", features)
    write_tiny_model(tmp_path / "model.pt")

    class Here:
        path = tmp_path

        def predict(self, *flags, model="model.pt", features="new"):
            capsys.readouterr()
            fixed = ["--predict", features, "--model_file", model, "--device", "cpu", "--products", "blas"]
            code = main.main([*fixed, "--test_batch_size", "3", *map(str, flags)])
            captured = capsys.readouterr()
            return code, captured.out, captured.err

        def out(self, *flags, **more):
            code, out, err = self.predict(*flags, **more)
            assert code == 0, err
            return out

        def refused(self, *flags, **more):
            before = contents(tmp_path)
            code, _, err = self.predict(*flags, **more)
            assert contents(tmp_path) == before
            return complaint(code, err)

        def shares(self, count, *flags, **more):
            for number in range(1, count + 1):
                self.out("--out", "x", "--shard", f"{number}/{count}", *flags, **more)

        def results(self, folder):
            return json.loads((tmp_path / folder / "results.json").read_text())

    return Here()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 12, 40])
@pytest.mark.parametrize("videos", [1, 3, 4, 5, 11, 12, 13, 30])
def test_every_batch_is_one_shares(monkeypatch, videos, count):
    monkeypatch.setattr(sharing, "VIDEOS_AT_ONCE", 4)
    whole = [part.videos for part in parts_of(videos, Share(1, 1))]
    assert [v for part in whole for v in part] == list(range(videos)) and max(map(len, whole)) <= 4
    batches = {part: [(part, i) for i in range(len(part))] for part in whole}  # of one video each
    parts = [list(parts_of(videos, Share(number, count))) for number in range(1, count + 1)]
    owned = [batch for share in parts for part in share for batch in part.own(batches[part.videos])]
    assert sorted(owned, key=str) == sorted((b for part in batches.values() for b in part), key=str)
    sizes = [sum(len(part.own(batches[part.videos])) for part in share) for share in parts]
    assert max(sizes) - min(sizes) <= 4
    if count > len(whole):  # a share opens the videos of one part
        assert all(len(share) == 1 for share in parts)
    else:  # and none but its own where there are enough
        assert sum(len(share) for share in parts) == len(whole)


@pytest.mark.parametrize("short_videos", ["stretch", "keep"])
@pytest.mark.parametrize("count", [1, 2, 5, 14])
def test_the_shares_are_one_process_to_the_bit(here, count, short_videos):
    write_tiny_model(here.path / "m.pt", short_videos=short_videos)
    here.out("--out", "whole", "--no-write_report", model="m.pt")
    here.shares(count, model="m.pt")
    said = here.out("--out", "x", model="m.pt")
    assert f"in 11 videos, of {count} shares; results in x" in said
    for name in ("detections.json", "detections.csv"):
        assert (here.path / "x" / name).read_bytes() == (here.path / "whole" / name).read_bytes()
    one, joined = here.results("whole"), here.results("x")
    shares = joined.pop("shares")
    assert (shares["count"], shares["differ"], len(shares["files"])) == (count, {}, 2 * count)
    for results in (one, joined):
        del results["options"]["out"], results["options"]["shard"], results["options"]["write_report"]
    assert joined == one


def test_videos_that_are_left_out_are_counted_once(here):
    np.save(here.path / "new" / "v03.npy", np.zeros((9, 10), np.float32))  # which every share of its part sees
    bad = np.zeros((9, 2 * FEATURE_SIZE), np.float32)
    bad[4] = np.nan
    np.save(here.path / "new" / "v07.npy", bad)  # which one share sees
    assert "--skip_unusable" in here.refused("--out", "x", "--shard", "1/7")
    here.out("--out", "whole", "--no-write_report", "--skip_unusable")
    here.shares(7, "--skip_unusable")
    assert "in 9 videos, of 7 shares" in here.out("--out", "x", "--skip_unusable")
    assert here.results("x")["left_out"] == here.results("whole")["left_out"]
    for name in ("detections.json", "detections.csv"):
        assert (here.path / "x" / name).read_bytes() == (here.path / "whole" / name).read_bytes()


def test_what_is_finished_is_not_done_again(here):
    here.out("--out", "x", "--shard", "2/2")
    before = contents(here.path)
    assert "x/shard-2-of-2: share 2/2 is there already" in here.out("--out", "x", "--shard", "2/2")
    assert contents(here.path) == before
    here.out("--out", "x", "--shard", "1/2")
    here.out("--out", "x")
    before = contents(here.path)
    assert "the 2 shares are joined already" in here.out("--out", "x")
    assert contents(here.path) == before


def test_the_files_that_were_joined_are_named(here):
    here.shares(2)
    here.out("--out", "x")
    files = here.results("x")["shares"]["files"]
    assert list(files) == [f"shard-{i}-of-2/{name}.json" for i in (1, 2) for name in ("results", "detections")]
    for name, digest in files.items():
        assert hashlib.sha256((here.path / "x" / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("name", ["detections.json", "detections.csv", "results.json"])
def test_what_is_gone_or_unreadable_is_joined_again(here, name):
    here.shares(2)
    here.out("--out", "x")
    before = contents(here.path)
    (here.path / "x" / name).unlink()
    assert "of 2 shares; results in x" in here.out("--out", "x")
    assert contents(here.path) == before
    for text in ("{", "[]", '{"shares": 3}', '{"shares": {"count": 2}}'):  # the last is of an earlier version
        (here.path / "x" / "results.json").write_text(text)
        assert "of 2 shares; results in x" in here.out("--out", "x")
        assert contents(here.path) == before


def test_a_share_that_was_made_again_is_joined_again(here):
    """With other features under the same names, which no comparison of the works sees."""
    here.shares(2)
    here.out("--out", "x")
    for file in (here.path / "new").iterdir():
        np.save(file, np.load(file)[::-1] * 0.5)
    for number in (1, 2):
        shutil.rmtree(here.path / "x" / f"shard-{number}-of-2")
        here.out("--out", "x", "--shard", f"{number}/2")
    here.out("--out", "whole", "--no-write_report")
    old = (here.path / "x" / "detections.json").read_bytes()
    assert "of 2 shares; results in x" in here.out("--out", "x")
    for name in ("detections.json", "detections.csv"):
        assert (here.path / "x" / name).read_bytes() == (here.path / "whole" / name).read_bytes() != old
    assert "joined already" in here.out("--out", "x")


def test_a_join_that_breaks_off_leaves_no_results_of_the_one_before(here, monkeypatch):
    here.shares(2)
    here.out("--out", "x")
    (here.path / "x" / "detections.csv").unlink()
    monkeypatch.setattr(predicting, "write_table", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        here.predict("--out", "x")
    assert not (here.path / "x" / "results.json").exists()


def test_what_a_killed_share_has_left_goes(here):
    left = here.path / "x" / ".shard-1-of-2.abc123.tmp"
    (left / "filled").mkdir(parents=True)
    here.out("--out", "x", "--shard", "2/2")
    with locked(left):  # another process is at it
        here.out("--out", "x", "--shard", "1/2")
        assert left.exists()
    shutil.rmtree(here.path / "x" / "shard-1-of-2")
    here.out("--out", "x", "--shard", "1/2")
    assert sorted(path.name for path in (here.path / "x").iterdir()) == ["shard-1-of-2", "shard-2-of-2"]


def test_a_share_has_no_page_unless_it_is_asked_for(here):
    here.out("--out", "x", "--shard", "1/2")
    assert sorted(path.name for path in (here.path / "x" / "shard-1-of-2").iterdir()) == [
        *("detections.csv", "detections.json", "results.json"),
    ]


def test_a_page_is_of_a_share(here):
    """Or of none, where a share has no videos."""
    for number in (1, 20):
        here.out("--out", "x", "--shard", f"{number}/20", "--write_report")
    assert (here.path / "x" / "shard-1-of-20" / "report.html").exists()
    assert not (here.path / "x" / "shard-20-of-20" / "report.html").exists()
    assert here.results("x/shard-20-of-20")["videos"] == {}
    assert "--write_report: shares are joined without a page" in here.refused("--out", "x", "--write_report")


def test_shares_that_are_missing_are_named(here):
    for number in (1, 3, 4):
        here.out("--out", "x", "--shard", f"{number}/5")
    line = here.refused("--out", "x")
    assert "--out x: holds 3 of 5 shares; missing: 2/5, 5/5; run each with --shard I/N, then this again" in line
    here.out("--out", "y", "--shard", "1/100000000")
    assert "missing: 2/100000000, 3/100000000" in here.refused("--out", "y") and "and 99,999,989 more"


def test_shares_of_another_work(here):
    here.shares(2)
    assert "x holds shares of 2; give the same N, or another --out" in here.refused("--out", "x", "--shard", "1/3")
    for flags in ([], ["--shard", "1/2"]):
        options = ("--gamma", "0.5", *flags)
        assert "was predicted with --gamma 0.2, now it is 0.5" in here.refused("--out", "x", *options)
    write_tiny_model(here.path / "other.pt", beta=0.5)
    assert "x/shard-1-of-2: was predicted by another model" in here.refused("--out", "x", model="other.pt")
    np.save(here.path / "new" / "v99.npy", np.ones((9, 2 * FEATURE_SIZE), np.float32))
    assert "is a share of other videos" in here.refused("--out", "x")
    (here.path / "new" / "v99.npy").unlink()
    (here.path / "new" / "gt.json").write_text(json.dumps({"database": {"v01": {"duration": 2.0}}}))
    assert "or other frame rates or durations" in here.refused("--out", "x")
    (here.path / "new" / "gt.json").unlink()
    shutil.copytree("x/shard-1-of-2", "x/shard-1-of-3")
    assert "--out x: holds shares of 2 and of 3" in here.refused("--out", "x")


@pytest.mark.parametrize("fact", ["fps", "duration"])
def test_a_frame_rate_or_a_duration_that_is_stated_otherwise_is_another_work(here, fact):
    def state(**facts):
        (here.path / "new" / "gt.json").write_text(json.dumps({"database": {"v01": facts}}))

    stated = {"fps": 30.0, "duration": 2.0}
    state(**stated)
    here.shares(2)
    state(**{**stated, fact: 1.5})
    for flags in ([], ["--shard", "1/2"]):
        said = here.refused("--out", "x", *flags)
        assert "x/shard-1-of-2: is a share of other videos, or other frame rates or durations of them" in said
    state(**stated)
    here.out("--out", "x")


def test_a_video_that_no_share_has(here):
    """All files of the share agree that it is not there, and none says that it was left out."""
    here.shares(2)
    folder = here.path / "x" / "shard-1-of-2"
    results, detections = (json.loads((folder / f"{name}.json").read_text()) for name in ("results", "detections"))
    video, _ = results["videos"].popitem()
    results["detections"] -= len(detections["results"].pop(video))
    for name, content in (("results", results), ("detections", detections)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    assert f"--out x: no share has video '{video}'; remove the shares" in here.refused("--out", "x")


def test_what_no_share_can_go_into(here):
    (here.path / "x").mkdir()
    (here.path / "x" / "mine.txt").write_text("")
    assert "--out x: exists and holds no shares" in here.refused("--out", "x", "--shard", "1/2")
    assert "--out x: exists, and nothing is overwritten" in here.refused("--out", "x")
    (here.path / "x" / "mine.txt").unlink()
    here.out("--out", "x", "--shard", "1/1")


def test_flags_that_make_no_sense(here, capsys):
    assert "--shard: needs --out DIR" in here.refused("--shard", "1/2")
    for shard in ("3/2", "0/4", "1", "a/b", "1/2/3", "²/3"):
        assert "must be I/N, share I of N" in here.refused("--out", "x", f"--shard={shard}")
    assert main.main(["--shard", "1/2"]) == 2
    assert "--shard is only read with --predict" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["1/1", "7/7", "999999999/999999999"])
def test_a_share_reads_as_it_is_written(text):
    assert str(parse_share(text)) == text
    with pytest.raises(InputError):
        parse_share(f"{text}0/1")


def _results(change):
    def spoil(folder):
        content = json.loads((folder / "results.json").read_text())
        change(content)
        (folder / "results.json").write_text(json.dumps(content))

    return spoil


def _reverse(folder):
    for name, key in (("results.json", "videos"), ("detections.json", "results")):
        content = json.loads((folder / name).read_text())
        content[key] = dict(reversed(content[key].items()))
        (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "detections.json").write_text('{"results": {}}'),
        lambda folder: (folder / "detections.json").unlink(),
        lambda folder: (folder / "results.json").write_text("[]"),
        lambda folder: (folder / "results.json").unlink(),
        _results(lambda content: content["videos"].popitem()),
        _results(lambda content: content["videos"].update(v99={})),
        _results(lambda content: content.update(videos=[])),
        _results(lambda content: content.update(share=3)),
        _results(lambda content: content["share"].update(left_out=3)),
        _results(lambda content: content["share"].update(left_out=[["a", []], [[], "b"]])),
        _results(lambda content: content.update(classes=["Dive"])),
        _results(lambda content: content.update(classes=3)),
        _results(lambda content: content.update(classes=[[], {}])),
        _results(lambda content: content.update(detections=3)),
        lambda folder: shutil.copytree(folder.with_name("shard-2-of-2"), folder, dirs_exist_ok=True),
        _reverse,
        _results(lambda content: content["videos"].update({next(iter(content["videos"])): []})),
    ],
)
def test_damaged_shares(here, spoil):
    here.shares(2)
    spoil(here.path / "x" / "shard-1-of-2")
    line = here.refused("--out", "x")
    assert "x/shard-1-of-2" in line or "--out x: share 1/2 has" in line or "--out x: share 2/2 has" in line


def test_another_processor_is_said(here, monkeypatch):
    here.out("--out", "x", "--shard", "1/2")
    monkeypatch.setattr("run.provenance.processor", lambda device: "another")
    here.out("--out", "x", "--shard", "2/2")
    assert "note: the shares differ in processor: last digits" in here.out("--out", "x")
    first, second = here.results("x")["shares"]["differ"]["processor"]
    assert second == "another" != first and "," in first


def test_two_processes_of_one_share(here, monkeypatch):
    """Both compute it; the one that ends later says that it is there."""
    real = predicting.write_files

    def write_files(folder, *rest):
        (here.path / "x" / "shard-1-of-2").mkdir()
        (here.path / "x" / "shard-1-of-2" / "results.json").write_text("")
        real(folder, *rest)

    monkeypatch.setattr(predicting, "write_files", write_files)
    code, _, err = here.predict("--out", "x", "--shard", "1/2")
    assert "x/shard-1-of-2: another process has just made it, and nothing is overwritten" in complaint(code, err)
    assert [path.name for path in (here.path / "x").iterdir()] == ["shard-1-of-2"]


def test_shares_of_different_machines_are_said(here):
    here.out("--out", "x", "--shard", "1/2", "--threads", "1")
    here.out("--out", "x", "--shard", "2/2", "--threads", "2")
    assert "note: the shares differ in threads: last digits may be others" in here.out("--out", "x")
    assert here.results("x")["shares"]["differ"] == {"threads": [1, 2]}
