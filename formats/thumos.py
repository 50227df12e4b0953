"""The layout "thumos": features/{train,test}/{rgb,flow}/VIDEO.npy, or joint files, or the same without {train,test}/."""

import pathlib

from formats.feature_folders import read_folder, read_subset_folders, subset_folders
from formats.feature_set import Storage, StoredSet
from formats.problems import Report


class ThumosLayout:
    name = "thumos"
    looked_for = "features/train/ and features/test/"

    def fits(self, path: pathlib.Path) -> bool:
        return (path / "features").is_dir()

    def read(self, path: pathlib.Path, *, allow_pickle: bool, report: Report) -> StoredSet:
        features = path / "features"
        groups = subset_folders(features)
        if not groups:
            return StoredSet(storage=Storage.undivided(read_folder(features, report)))
        return StoredSet(storage=read_subset_folders(features, groups, report))
