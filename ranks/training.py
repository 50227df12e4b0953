"""Who leads and who follows: rank 0 runs the training loop of one process and tells the others what to take part in.

Rank 0: its Trainer's step and evaluator give a command, then do rank 0's part of it. All other ranks do what they are told,
until the end. They read no files but the data, and write none.
"""

import contextlib
import hashlib
import itertools
import json
import os
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from command_line.signals import stop_signals
from data_tools.demo_set import data_folder
from dataset import Batch, train_batches
from layers.wide_adam import WideAdam
from model import SAL
from options import Options, from_plain
from ranks.evaluation import shared_evaluator
from ranks.exchange import broadcast
from ranks.joining import Ranks
from ranks.shared_step import SharedStep
from run.data_digest import data_digest
from run.device import choose_machine
from run.loading import load_for_training, training_network
from self_training import ProposalLessons
from test import Evaluator
from train import Objective, StepResult, Trainer, build_training, schedule_lr
from utils.errors import InputError, TrainingError
from utils.memory import is_out_of_memory


@contextlib.contextmanager
def leading(ranks: Ranks) -> Iterator[None]:
    """On rank 0, around its work: when it ends, the others end."""
    try:
        yield
    except BaseException:
        ranks.close("rank 0 says why")
        raise
    ranks.close()


class Leader:
    """What makes rank 0's training loop that of all ranks."""

    def __init__(self, ranks: Ranks, options: Options, plain: Mapping[str, Any]) -> None:
        """Let the others read the data. `plain` are the options with what this machine has chosen. Raises InputError."""
        size = options.optimisation.batch_size
        if size % ranks.count:
            raise InputError(
                f"--batch_size {size}: is the number of videos of all ranks together, of which there are {ranks.count}; give a "
                "multiple of that"
            )
        if options.run.compile:
            raise InputError("--compile: works in one process, not in several that train together; omit it")
        data_folder(options.data)  # writes the demo set, before several processes do
        self.ranks = ranks
        ranks.command("start", options=dict(plain))

    def begin(self, trainer: Trainer, model: SAL, options: Options) -> Evaluator:
        """Give the others the state that training starts from, and make the trainer's steps shared ones.

        Returns the evaluator that they share, too. Raises InputError when another rank has other data.
        """
        ranks, own = self.ranks, in_short(trainer.digest)
        ranks.command("train", step=trainer.step, total=trainer.total_steps, rows=trainer.digest["rows"])
        for rank in range(1, ranks.count):
            if ranks.word(f"data/{rank}") != own:
                raise InputError(
                    f"rank {rank} (on {ranks.hosts[rank]}) has other data than rank 0 in {options.data.data_path}"
                )
        share_state(trainer.objective, trainer.optimizer, ranks, step=trainer.step, lessons=trainer.lessons)
        segments = options.data.num_segments
        step = SharedStep(trainer.objective, trainer.optimizer, ranks, num_segments=segments)

        def take_step(batch: Batch) -> StepResult:
            ranks.command("step")
            if trainer.lessons:
                share_lessons(trainer.lessons, ranks, step=trainer.step, total_steps=trainer.total_steps)
            return step(batch)

        trainer.take_step = take_step
        return shared_evaluator(model, trainer.data, options, ranks)


def follow(ranks: Ranks) -> None:
    """On every rank but 0: do what rank 0 says. What goes wrong here is for rank 0 to tell; this process ends with code 1."""
    failure: str | None = None
    is_mistake = False
    try:
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
            stop_signals(lambda *_: None),  # rank 0 gets them too, saves, and ends the others
        ):
            _follow(ranks)
    except (TrainingError, InputError) as error:
        failure, is_mistake = str(error) or None, isinstance(error, InputError)  # nothing where rank 0 has failed
    except Exception as error:
        failure = "out of memory" if is_out_of_memory(error) else traceback.format_exc()
    ranks.close(failure, is_mistake=is_mistake)
    if ranks.pulse.speaks:
        raise TrainingError(ranks.pulse.verdict)
    if failure is not None:
        raise SystemExit(1)


def _follow(ranks: Ranks) -> None:
    start = ranks.next_command()
    if start["do"] == "end":
        return
    options = from_plain(start["options"])
    machine = choose_machine(options.run, **ranks.of_machine)
    data = load_for_training(options, machine)
    make_model = training_network(options, machine, data)
    with torch.device("meta"):
        model = make_model()
    model.to_empty(device=machine.device)
    objective, optimizer = build_training(model, options, machine.device)
    evaluator = shared_evaluator(model, data, options, ranks)
    train = ranks.next_command()
    if train["do"] == "end":
        return
    ranks.say(f"data/{ranks.rank}", in_short(data_digest(data, rows=train["rows"])))
    lessons = ProposalLessons.of(model, data.train, options)
    share_state(objective, optimizer, ranks, step=train["step"], lessons=lessons)
    shared = SharedStep(objective, optimizer, ranks, num_segments=options.data.num_segments)
    batches = train_batches(
        data.train,
        options.data,
        optimisation=options.optimisation,
        seed=options.run.seed,
        first_step=train["step"],
        last_step=train["total"],
        share=shared.share,
    )
    with contextlib.closing(batches):
        for step in itertools.count(train["step"]):
            while (do := ranks.next_command()["do"]) == "predict":
                evaluator.predict_share()
            if do == "end":
                return
            if lessons:
                share_lessons(lessons, ranks, step=step, total_steps=train["total"])
            model.train()
            torch.manual_seed(dropout_seed(options.run.seed, ranks.rank, step))
            schedule_lr(optimizer, options.optimisation, step=step, total_steps=train["total"])
            batch = next(batches)
            shared(lessons.attach(batch) if lessons else batch)


def dropout_seed(seed: int, rank: int, step: int) -> int:
    """The seed of a rank's random numbers in a step, the same when the run is resumed; rank 0 goes on with its own."""
    return int(np.random.SeedSequence([seed, rank, step]).generate_state(1, np.uint64)[0])


def share_lessons(lessons: ProposalLessons, ranks: Ranks, *, step: int, total_steps: int) -> None:
    """At the start of a round, give all ranks the lessons that rank 0 has made of all videos."""
    if lessons.begins_round(step, total_steps):
        with ranks.pulse.waiting():
            broadcast([lessons.taught])


def share_state(
    objective: Objective, optimizer: WideAdam, ranks: Ranks, *, step: int, lessons: ProposalLessons | None
) -> None:
    """Give all ranks rank 0's weights, mask statistics, teacher, lessons and, of a run that is resumed, moments."""
    model = objective.model
    tensors = [*model.parameters(), *objective.mask.buffers()]
    if objective.teacher:
        tensors += objective.teacher.tensors
    if lessons:
        tensors.append(lessons.taught)
    optimizer.make_moments()
    if step:
        tensors += [value for p in model.parameters() for value in optimizer.state[p].values()]
    with ranks.pulse.waiting():
        broadcast([tensor.detach() for tensor in tensors])


def in_short(digest: Mapping[str, Any]) -> str:
    """A digest of the data (run/data_digest.py), for a comparison; the times of files are not the data."""
    kept = {
        name: {key: value for key, value in part.items() if key != "feature files"} if isinstance(part, dict) else part
        for name, part in digest.items()
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
