"""Any file and any flags of a sweep are its runs or one line; nothing is run, since --table asks for the table alone."""

from hypothesis import strategies as st
from support.fuzz import fresh_folder, fuzz, promised
from support.strategies import argument_texts, odd_values

from experiments import seeds, sweep
from options import FLAGS

NAMES = st.sampled_from((*FLAGS.names[:12], "lr", "compile", "average_tious", "min_score", "tious", "seed", "", "1"))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | odd_values
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_values, inner, max_size=2)
)


@st.composite
def files(draw):
    """Text of a sweep's file: most often of its form, with values of any kind."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.text(max_size=60) | VALUES.map(repr))
    sections = {
        "flags": draw(st.dictionaries(NAMES, VALUES, max_size=2)),
        "values": draw(st.dictionaries(NAMES, st.lists(VALUES, max_size=3), max_size=2)),
        "seeds": draw(st.lists(st.integers(), max_size=3) | VALUES),
    }
    return "\n".join(f"{key}: {value!r}" for key, value in sections.items() if draw(st.booleans()))


@fuzz(300, text=files())
def test_any_file_is_a_sweep_or_one_line(text):
    with fresh_folder() as folder:
        file = folder / "s.yaml"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        promised(sweep.main, [str(file), "--table", "--output_dir", str(folder / "out")], folder)


@fuzz(
    150, words=st.lists(argument_texts | st.sampled_from(("--seeds", "--name", "--jobs", "1", "2", "--lr")), max_size=5)
)
def test_any_flags_are_a_queue_or_one_line(words):
    with fresh_folder() as folder:
        promised(seeds.main, ["--seeds", "1", "--table", "--output_dir", str(folder / "out"), *words], folder)
