"""The layout "activitynet": {train,validation|val|test}/VIDEO.npy, or with {rgb,flow}/ inside."""

import pathlib

from formats.feature_folders import read_subset_folders, subset_folders
from formats.feature_set import StoredSet
from formats.problems import Report


class ActivitynetLayout:
    name = "activitynet"
    looked_for = "train/ and validation/, val/ or test/"

    def fits(self, path: pathlib.Path) -> bool:
        return bool(subset_folders(path))

    def read(self, path: pathlib.Path, *, allow_pickle: bool, report: Report) -> StoredSet:
        return StoredSet(storage=read_subset_folders(path, subset_folders(path), report))
