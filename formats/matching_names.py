"""The same videos and classes in two files that spell them differently: matched where that is unambiguous, never in silence.

matching = match_names(result_file_videos, ground_truth_videos, folds=VIDEO_FOLDS)
matching.known         {"v_x1.mp4": "x1", "x2": "x2"}
matching.contested     {"X3.MP4": ("x3", "X3")}        two names of the ground truth fit
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from formats.names import fold, fold_video

Fold = Callable[[str], str]

# From what differs least to what differs most.
VIDEO_FOLDS: tuple[Fold, ...] = (partial(fold_video, case=True), fold_video)
CLASS_FOLDS: tuple[Fold, ...] = (fold,)


@dataclass(frozen=True, kw_only=True)
class Matching:
    known: dict[str, str]  # found name -> the known name it means, no two the same
    contested: dict[
        str, tuple[str, ...]
    ]  # found name -> several that it may mean, or one that another found name means too

    @property
    def respelled(self) -> dict[str, str]:
        """The matches whose spelling differs."""
        return {found: known for found, known in self.known.items() if found != known}


def match_names(found: Iterable[str], known: Iterable[str], *, folds: Sequence[Fold]) -> Matching:
    """Match each found name with at most one known name: itself, else the one that is equal after folding.

    The first of `folds` that finds any decides. A found name that fits several known names is contested, and so is one that
    fits a known name which another one fits.
    """
    found, known = tuple(dict.fromkeys(found)), tuple(dict.fromkeys(known))
    same = set(known)
    matched = {name: name for name in found if name in same}
    contested: dict[str, tuple[str, ...]] = {}
    for candidates in (_candidates(found, known, by) for by in folds):
        taken = set(matched.values())
        open_names = {name: candidates[name] for name in found if name in candidates and name not in matched}
        claims: dict[str, list[str]] = defaultdict(list)
        for name, fits in open_names.items():
            if len(fits) == 1:
                claims[fits[0]].append(name)
        for name, fits in open_names.items():
            if name in contested:
                continue
            if len(fits) == 1 and fits[0] not in taken and len(claims[fits[0]]) == 1:
                matched[name] = fits[0]
            else:
                contested[name] = fits
    return Matching(known=matched, contested=contested)


def _candidates(found: Iterable[str], known: Iterable[str], by: Fold) -> dict[str, tuple[str, ...]]:
    """{found name: the known names that are equal to it after folding}, where there are any."""
    equal: dict[str, list[str]] = defaultdict(list)
    for name in known:
        equal[by(name)].append(name)
    return {name: tuple(equal[by(name)]) for name in found if by(name) in equal}
