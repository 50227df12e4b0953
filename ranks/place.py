"""Which of the processes that torchrun has started this one is: nothing here needs torch.

place = Place.of_environment()          # None where torchrun has started no other
"""

import os
from dataclasses import dataclass

from utils.errors import InputError

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # that torchrun sets


@dataclass(frozen=True, kw_only=True)
class Place:
    """A rank among several, and where rank 0 is to be found."""

    rank: int
    count: int
    on_machine: int  # counted from 0
    address: str
    port: int

    @staticmethod
    def of_environment() -> "Place | None":
        """None where torchrun has not started this process, or no other. Raises InputError for what can't be."""
        if any(name not in os.environ for name in VARIABLES):
            return None
        numbers = {}
        for name in ("RANK", "WORLD_SIZE", "MASTER_PORT", "LOCAL_RANK"):
            text = os.environ.get(name, "0")
            if not text.isdecimal():
                raise InputError(f"{name}={text}: not a number; start several processes with torchrun, which sets it")
            numbers[name] = int(text)
        if numbers["RANK"] >= numbers["WORLD_SIZE"]:
            raise InputError(f"RANK={numbers['RANK']}: must be less than WORLD_SIZE={numbers['WORLD_SIZE']}")
        if numbers["WORLD_SIZE"] == 1:
            return None
        return Place(
            rank=numbers["RANK"],
            count=numbers["WORLD_SIZE"],
            on_machine=numbers["LOCAL_RANK"],
            address=os.environ["MASTER_ADDR"],
            port=numbers["MASTER_PORT"],
        )


def check_alone(what: str) -> None:
    """For a command that works in one process: InputError where torchrun has started several, of which rank 0 alone speaks."""
    place = Place.of_environment()
    if place and place.rank:
        raise SystemExit(2)
    if place:
        raise InputError(
            f"{what}: works in one process, torchrun has started {place.count}; training alone is shared out"
        )
