"""A place for queues of runs that a stand-in for main.py makes, and the fixture's parts."""

import json
import pathlib
import time
from dataclasses import dataclass
from typing import Any

from support.paths import ROOT

FAKE_MAIN = ROOT / "tests" / "support" / "fake_main.py"


@dataclass(frozen=True)
class Place:
    """A folder with an empty data set, and what the stand-in is to do and was asked to."""

    path: pathlib.Path

    @property
    def flags(self) -> list[str]:
        return ["--data_path", str(self.path / "data"), "--output_dir", str(self.path / "out"), "--device", "cpu"]

    def plan(self, **does: str) -> None:
        (self.path / "does.json").write_text(json.dumps(does))

    def calls(self) -> list[dict[str, Any]]:
        """What the stand-in was called with since the last look."""
        file = self.path / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]


def wait_for(*files: pathlib.Path) -> None:
    deadline = time.monotonic() + 60
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline, f"none of {files} came"
        time.sleep(0.05)


def refused(capsys: Any, command: Any, *words: object) -> str:
    """The line that a command complains with."""
    assert command.main([str(word) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return str(line)
