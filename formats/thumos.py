"""The layout "thumos": features/{train,test}/{rgb,flow}/VIDEO.npy, or joint files; {train,test}/ or features/ may be absent."""

import pathlib

from formats.feature_folders import (
    features_folder,
    read_folder,
    read_subset_folders,
    stream_folders,
    subset_folders,
)
from formats.feature_set import Storage, StoredSet
from formats.hdf5 import hdf5_files
from formats.problems import Report


class ThumosLayout:
    name = "thumos"
    looked_for = "features/train/ and features/test/"

    def fits(self, path: pathlib.Path) -> bool:
        if hdf5_files(features_folder(path)):
            return False
        return features_folder(path).is_dir() or (bool(stream_folders(path)) and not subset_folders(path))

    def read(self, path: pathlib.Path, *, allow_pickle: bool, report: Report) -> StoredSet:
        features = features_folder(path) if features_folder(path).is_dir() else path
        groups = subset_folders(features)
        if not groups:
            return StoredSet(storage=Storage.undivided(read_folder(features, report)))
        return StoredSet(storage=read_subset_folders(features, groups, report))
