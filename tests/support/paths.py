"""The folders that tests read."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "tests" / "golden"
SHARED = ROOT.parent / "shared"  # real data that is not part of the project; tests that use it skip where it is absent
