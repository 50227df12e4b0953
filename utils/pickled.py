""".npy files with pickled objects in them, which some feature sets come as.

array = read_pickled(path, allowed=True)        # bytes of Python 2 stay bytes

Unpickling can run any code that a file asks for. So it takes the user's word, --allow_pickle; and even then only arrays and
plain values are built: a file that asks for anything else is refused.
"""

import pathlib
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.errors import InputError

# All that arrays of lists, numbers and strings are pickled with.
_BUILDERS = {
    *((module, "_reconstruct") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    *((module, "scalar") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    *((module, "_frombuffer") for module in ("numpy.core.numeric", "numpy._core.numeric")),
    *{("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")},
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _BUILDERS:
            raise pickle.UnpicklingError(f"asks for {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_pickled(path: pathlib.Path, *, allowed: bool) -> NDArray[Any]:
    """A .npy file, pickled or not. Raises InputError when it is pickled and that is not allowed, or broken, or not arrays."""
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            if not dtype.hasobject:
                array: NDArray[Any] = np.load(path, allow_pickle=False)
                return array
            if not allowed:
                raise InputError(
                    f"{path}: holds pickled objects, and reading these can run code that came with the file; if you trust "
                    "where it is from, give --allow_pickle (python -m utils.convert then writes it as plain arrays, once)"
                )
            array = _ArrayUnpickler(file, encoding="bytes").load()
            if not isinstance(array, np.ndarray):
                raise pickle.UnpicklingError(f"holds a {type(array).__name__}")
            return array.reshape(shape)
    except (InputError, MemoryError):
        raise
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path") from None
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: not an array of arrays and strings ({error}); it was not loaded") from None
    except Exception as error:  # a damaged file makes the readers fail in any way
        raise InputError(f"{path}: not a whole .npy file ({type(error).__name__}); get another copy") from None
