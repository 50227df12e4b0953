"""A model of the tiny set as a file, without training it: enough wherever its detections need not be good."""

import pathlib

import torch

from model import SAL
from options import ModelOptions
from run.checkpoint import Checkpoint, save_checkpoint, to_published
from support.tiny import CLASSES, FEATURE_SIZE

OPTIONS = {
    **{"num_segments": 24, "feature_size": FEATURE_SIZE, "hidden_size": 8, "pseudo_extra": 2, "class_th": 0.0},
    "write_report": False,  # which takes seconds
}


def tiny_network(*, classes: int = len(CLASSES), seed: int = 0, modal: tuple[str, ...] = ("rgb", "flow")) -> SAL:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SAL(ModelOptions(hidden_size=8), num_classes=classes, streams=modal, feature_size=FEATURE_SIZE)


def write_tiny_model(path: pathlib.Path, *, classes: tuple[str, ...] = CLASSES, **options: object) -> pathlib.Path:
    """A checkpoint of this project."""
    model = tiny_network(classes=len(classes)).state_dict()
    save_checkpoint(path, Checkpoint(model=model, options={**OPTIONS, **options}, classes=classes))
    return path


def write_bare_model(path: pathlib.Path, *, classes: int = len(CLASSES)) -> pathlib.Path:
    """The same weights as a bare state dict, as other people publish them."""
    torch.save(to_published(tiny_network(classes=classes).state_dict()), path)
    return path
