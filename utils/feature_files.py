"""Feature files of one video: reading and checking them, at once or a few snippets at a time.

    files = FeatureFiles((rgb_path, flow_path), feature_size=1024)      # looks at the headers alone
    files.load()                                                        # [L,D], everything
    files[indices]                                                      # [len(indices),D], opened for this call only

An open memory map holds a file descriptor, of which a process has about a thousand; so none is kept open.
"""

import pathlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.arrays import Indices
from utils.errors import InputError


class FeatureFiles:
    """One array [L,feature_size] a stream, side by side: [L,D]. Raises InputError naming the file and what to do."""

    def __init__(self, paths: tuple[pathlib.Path, ...], feature_size: int) -> None:
        self.paths, self.feature_size = paths, feature_size
        arrays = [self._open(path) for path in paths]
        lengths = [len(array) for array in arrays]
        if len(set(lengths)) > 1:
            shapes = ", ".join(f"{path} has {length}" for path, length in zip(paths, lengths, strict=True))
            raise InputError(
                f"video '{paths[0].stem}': streams of different length in snippets: {shapes}; extract them again"
            )
        self.shape = lengths[0], feature_size * len(paths)
        half = all(array.dtype == np.float16 for array in arrays)
        self.dtype: np.dtype[Any] = np.dtype(np.float16 if half else np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def load(self) -> NDArray[np.floating]:
        return self[np.arange(len(self))]

    def __getitem__(self, indices: Indices) -> NDArray[np.floating]:
        out = np.empty((len(indices), self.shape[1]), self.dtype)
        for s, path in enumerate(self.paths):
            array = self._open(path)
            if len(array) != len(self):
                raise InputError(f"{path}: has {len(array)} snippets now, had {len(self)}; leave it alone during a run")
            self._copy(path, array, indices, out[:, s * self.feature_size : (s + 1) * self.feature_size])
        return out

    def _copy(
        self, path: pathlib.Path, array: NDArray[np.floating], indices: Indices, out: NDArray[np.floating]
    ) -> None:
        with np.errstate(over="ignore"):  # batches are float32, where a large float64 is infinite
            out[:] = array[indices]
        finite = np.isfinite(out).all(1)
        if not finite.all():
            snippet = int(indices[np.flatnonzero(~finite)[0]])
            raise InputError(
                f"{path}: NaN or infinity in the features of video '{path.stem}', first at snippet {snippet}; "
                "extract them again or drop the video"
            )

    def _open(self, path: pathlib.Path) -> NDArray[np.floating]:
        array = _map_npy(path)
        if array.dtype not in (np.float16, np.float32, np.float64):
            raise InputError(f"{path}: an array of {array.dtype}, expected float32 or float16")
        if array.ndim != 2 or array.shape[1] != self.feature_size:
            raise InputError(
                f"{path}: shape {array.shape}, expected [snippets, {self.feature_size}]; see --feature_size and --modal"
            )
        if len(array) == 0:
            raise InputError(f"{path}: no snippets; extract it again or drop the video")
        return array


def _map_npy(path: pathlib.Path) -> NDArray[Any]:
    """Memory-mapped. Raises InputError for anything but a whole .npy file without pickled objects."""
    with open(path, "rb") as file:
        start = file.read(6)
    pickled = InputError(f"{path}: holds pickled objects, which could run code; save a plain float array")
    if start[:1] == b"\x80":
        raise pickled
    if start != b"\x93NUMPY":
        raise InputError(f"{path}: not an array in the .npy format; save it with numpy.save")
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # a broken header raises whatever Python's own parser does
        if "pickle" in str(error) or "Python objects" in str(error):
            raise pickled from None
        raise InputError(f"{path}: not a whole .npy file ({type(error).__name__}); write it again") from None
    return array
