"""A trained model with the test split it is tried on, as --inference_only and --report need them.

loaded = load_for_test(*begin_inference(flags))        # prints what its user should know of checkpoint, data and classes
"""

import math
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

from data_tools.opening import open_dataset
from dataset import Dataset, hold_out
from formats.annotations import labels_of
from formats.inspection import InspectedSet
from losses import AdaptiveMask
from model import SAL
from options import Options
from run.checkpoint import Checkpoint, load_network
from run.device import Machine, check_batch_fits, choose_machine, network_maker
from run.evaluating import worker_count
from run.experiment import Experiment
from run.training_state import check_buffers, damage_named
from run.weights import assume_classes, assumed_lines, class_lines


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    experiment: Experiment  # whose folder gets the results
    path: pathlib.Path  # of the checkpoint
    options: Options
    machine: Machine
    data: Dataset  # its test split; its classes begin with the model's
    model: SAL
    mask: AdaptiveMask | None  # None where the checkpoint has no statistics


def load_for_test(experiment: Experiment, path: pathlib.Path, options: Options, checkpoint: Checkpoint) -> LoadedModel:
    """Load what `run.experiment.begin_inference` has found. Raises InputError when the parts do not fit each other."""
    for note in checkpoint.notes:
        print(f"note: {note}")
    known = checkpoint.classes or None
    machine = choose_machine(options.run)
    data = open_dataset(options.data, device=machine.device, splits=("test",), classes=known)
    classes = known or assume_classes(checkpoint, data.classes, path)
    labels = labels_of(data.annotations, data.test.names)
    for line in class_lines(classes, known=known, data=data.classes, labels=labels, path=path):
        print(line)
    for line in assumed_lines(checkpoint, options.data, path):
        print(line)
    make_model = network_maker(
        options.model,
        options.data,
        machine,
        num_classes=len(classes),
        training=False,
        compiled=options.run.compile,
        ablation=options.ablation,
    )
    check_batches_fit(options, machine, data, training=False)
    return LoadedModel(
        experiment=experiment,
        path=path,
        options=options,
        machine=machine,
        data=data,
        model=load_network(make_model, checkpoint, path, device=machine.device),
        mask=saved_mask(checkpoint, options, path),
    )


def load_for_training(options: Options, machine: Machine, *, inspected: InspectedSet | None = None) -> Dataset:
    """Both splits, and of the training videos those that --select val holds out. `inspected`: see load_dataset.

    Raises InputError.
    """
    data = open_dataset(options.data, device=machine.device, splits=("train", "test"), inspected=inspected)
    if options.evaluation.select == "val":
        data = hold_out(data, share=options.evaluation.val_share, seed=options.run.seed)
    return data


def training_network(options: Options, machine: Machine, data: Dataset) -> Callable[[], SAL]:
    """The function that makes the network to train. Raises InputError when it, or a batch of the data, will not fit."""
    make_model = network_maker(
        options.model,
        options.data,
        machine,
        num_classes=len(data.classes),
        training=True,
        compiled=options.run.compile,
        evaluating=worker_count(options.run.eval_workers, machine.device),
        teacher=options.has_teacher,
        ablation=options.ablation,
    )
    check_batches_fit(options, machine, data, training=True)
    return make_model


def saved_mask(checkpoint: Checkpoint, options: Options, path: pathlib.Path) -> AdaptiveMask | None:
    """The adaptive mask as it was when the model was saved; None in a file that says nothing of it. Raises InputError."""
    state = checkpoint.training.get("mask")
    if state is None or not checkpoint.classes:
        return None
    mask = AdaptiveMask(options.actionness, num_classes=len(checkpoint.classes))
    with damage_named(path):
        mask.load_state_dict(check_buffers(state, mask, low=0.0, high=math.inf))
    return mask


def check_batches_fit(options: Options, machine: Machine, data: Dataset, *, training: bool) -> None:
    """Raise InputError when a batch of the options' size needs more memory than there is."""
    most = max(len(data.test), len(data.held_out or ()))
    batches = {"test_batch_size": min(options.evaluation.test_batch_size, most)}
    if training:
        batches["batch_size"] = min(options.optimisation.batch_size, len(data.train))
    for flag, size in batches.items():
        hidden, trained = options.model.hidden_size, flag == "batch_size"
        check_batch_fits(
            flag,
            size,
            machine,
            data=options.data,
            hidden_size=hidden,
            training=trained,
            teacher=trained and options.has_teacher,
        )
