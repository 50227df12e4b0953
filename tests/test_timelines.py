"""Timelines on disk: what was written is read again, anything else is refused in one line."""

import dataclasses
import json

import numpy as np
import pytest

from formats.timelines import Timelines, VideoSequences, read_timelines, write_timelines
from utils.errors import InputError
from utils.segments import Segments


def timelines(*, mask=True, streams=("rgb", "flow"), bare=False, combined=True):
    """Two videos of 4 and 3 snippets; the second has no label and one predicted class."""
    random = np.random.default_rng(0)

    def of(count, classes):
        half = random.random((2, len(classes), count)).astype(np.float16).astype(np.float32)
        if bare:
            return VideoSequences(classes=np.array(classes), cas=half[0], streams={})
        return VideoSequences(
            classes=np.array(classes),
            cas=half[0],
            combined=half[1] if combined else None,
            actionness=np.linspace(0, 1, count, dtype=np.float32).astype(np.float16).astype(np.float32),
            streams={name: np.full(count, i / 4, np.float32) for i, name in enumerate(streams)},
            pseudo_label=np.array([1, 0, 1, 0], np.float32)[:count],
            mask=np.full(count, 0.5, np.float32) if mask else None,
        )

    return Timelines(
        videos=("a", "b\x00 <script>"),
        classes=("run", "jump", "é"),
        seconds=np.array([10.0, 5.0]),
        first=np.array([0.0, 0.1]),
        step=np.array([2.5, 5 / 3]),
        labels=np.array([[True, True, False], [False, False, False]]),
        predicted=np.array([[True, False, False], [False, False, True]]),
        class_scores=np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]], np.float32),
        truth=Segments.from_rows([(0, 0, 1.0, 2.0, 1.0), (0, 1, 3.0, 4.5, 1.0)]),
        sequences=(of(4, [0, 1]), of(3, [2])),
    )


def flat(record):
    return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}


@pytest.mark.parametrize(
    "shape", [{}, {"mask": False}, {"streams": ("flow",)}, {"streams": ()}, {"combined": False}, {"bare": True}]
)
def test_what_is_written_is_read_again(shape, tmp_path):
    written = timelines(**shape)
    write_timelines(tmp_path / "t.npz", written)
    found = read_timelines(tmp_path / "t.npz")
    for name, value in flat(written).items():
        if name not in ("sequences", "truth"):
            np.testing.assert_array_equal(value, getattr(found, name))
    for one, other in zip(written.sequences, found.sequences, strict=True):
        assert list(one.streams) == list(other.streams) and one.parts == other.parts
        assert one.num_snippets == other.num_snippets == one.rows.shape[1]
        np.testing.assert_array_equal(one.classes, other.classes)
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_array_equal(one.of_proposals, other.of_proposals)
        for part in ("cas", *one.parts):
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
    for name, column in flat(written.truth).items():
        np.testing.assert_array_equal(column, getattr(found.truth, name))


@pytest.mark.parametrize("mask", [True, False])
def test_files_of_the_first_format_are_read(mask, tmp_path):
    """They say whether there is a mask; everything else always was."""
    written, path = timelines(mask=mask), tmp_path / "t.npz"
    write_timelines(path, written)
    with np.load(path) as file:
        arrays = dict(file)
    names = json.loads(arrays["names"].tobytes())
    del names["parts"]
    names |= {"format": 1, "mask": mask}
    np.savez(path, **{**arrays, "names": np.frombuffer(json.dumps(names).encode(), np.uint8)})
    for one, other in zip(written.sequences, read_timelines(path).sequences, strict=True):
        assert one.parts == other.parts
        np.testing.assert_array_equal(one.rows, other.rows)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"t\.npz: no such file"):
        read_timelines(tmp_path / "t.npz")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_cut_file_is_refused(keep, tmp_path):
    path = tmp_path / "t.npz"
    write_timelines(path, timelines())
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if keep > 1 or keep == 0 else int(keep * len(whole))])
    with pytest.raises(InputError, match=r"t\.npz"):
        read_timelines(path)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("labels", lambda a: a[:1]),
        ("class_scores", lambda a: a * np.nan),
        ("truth_indices", lambda a: a + 5),
        ("truth_indices", lambda a: a - 5),
        ("sequences", lambda a: a[:-1]),
        ("sequences", lambda a: a.astype(np.float64)),
        ("snippets", lambda a: a * 1000),
        ("snippets", lambda a: -a),
        ("times", lambda a: a[:2]),
        ("names", lambda a: np.frombuffer(b'{"format": 2}', np.uint8)),
        ("names", lambda a: np.frombuffer(b'{"format": 3}', np.uint8)),
        ("names", lambda a: np.frombuffer(a.tobytes().replace(b'"combined", ', b""), np.uint8)),
        ("names", lambda a: np.frombuffer(a.tobytes().replace(b'["rgb", "flow"]', b"[]"), np.uint8)),
        ("names", lambda a: np.frombuffer(b"[1]", np.uint8)),
        ("names", lambda a: np.array([{"a": 1}], object)),
    ],
)
def test_altered_parts_are_refused(key, change, tmp_path):
    path = tmp_path / "t.npz"
    write_timelines(path, timelines())
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, key: change(arrays[key])})
    with pytest.raises(InputError, match=r"t\.npz"):
        read_timelines(path)
