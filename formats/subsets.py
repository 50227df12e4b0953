"""Names of subsets, as ground truths and folders spell them, and what they are here: training or test.

THUMOS'14 trains on its validation videos and tests on its test videos; ActivityNet trains on training and tests on
validation, since its test labels are secret. So what "validation" is depends on what else there is.
"""

from collections.abc import Set

GROUPS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
_GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}


def group_of(subset: str) -> str | None:
    """train, validation or test; None for any other name. Case does not matter."""
    return _GROUP_OF.get(subset.lower())


def splits_of(groups: Set[str]) -> dict[str, str]:
    """{group: split} for the groups that there are: validation trains where nothing else does, and else it tests."""
    if "train" in groups:
        return {group: "train" if group == "train" else "test" for group in groups}
    return {group: "train" if group == "validation" else "test" for group in groups}
