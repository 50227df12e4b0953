"""Asking git for the commit leaves the user's checkout alone."""

import os
import subprocess

import pytest

from run import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of one file, which git has to look at again: its time differs, its content does not."""
    for variable in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "file").write_text("content")
    author = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
    for command in (["init", "-q"], ["add", "file"], [*author, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    os.utime(tmp_path / "file", (1e9, 1e9))
    return tmp_path


def test_the_index_is_not_written(checkout):
    index = checkout / ".git" / "index"
    before = index.read_bytes()
    assert provenance._git(checkout, "status", "--porcelain", "--untracked-files=no") == ""
    assert index.read_bytes() == before
    subprocess.run(["git", "-C", str(checkout), "status"], check=True, capture_output=True)
    assert index.read_bytes() != before  # which git does on its own


def test_no_checkout(tmp_path):
    assert provenance._git(tmp_path / "nowhere", "rev-parse", "HEAD") is None
