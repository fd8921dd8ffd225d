"""Reading a pickle that holds arrays and ordinary containers, without running anything that the file names.

Detectron2's `.pkl` checkpoints and CIFAR's batches are such pickles. NumPy's own reconstruction is not trusted either:
its `__setstate__` takes memory flags from the file. Stand-ins collect what the file says about each array, and the
array is then built from the bytes with a plain numeric type, or not at all.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from clop_det.checkpoints.limits import check_content, check_memo
from clop_det.errors import UserError

# Kind and size: booleans, integers and floats, the only element types that weights and counters have.
_DTYPES = frozenset({"b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"})
_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC_MODULES = ("numpy.core.numeric", "numpy._core.numeric")


class Maker:
    """What a name in the file stands for: it can be called, and nothing else can be done to it.

    A bare class or function would not do: a pickle may set attributes on whatever it names, and so change this reader
    for the files to come.
    """

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("state for something that has none")


class _Dtype:
    """Stands for `numpy.dtype("f4", False, True)` and the byte order that follows it."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = _text(code)
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def build(self) -> np.dtype[Any]:
        code = self.code.lstrip("<>|=")
        if code not in _DTYPES:
            raise pickle.UnpicklingError(f"an array of element type {self.code!r}")
        return np.dtype((self.order if self.order in "<>" else "<") + code)


class _Array:
    """Stands for an array until the whole file has been read."""

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    @property
    def held(self) -> int:
        """Bytes that the array will take."""
        return _length(self.state[4]) if isinstance(self.state, tuple) and len(self.state) == 5 else 0

    def build(self) -> np.ndarray[Any, Any]:
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise pickle.UnpicklingError("an array without content")
        _, shape, dtype, fortran, data = self.state
        return _from_bytes(data, dtype, shape, "F" if fortran else "C")


class _Scalar:
    """Stands for a NumPy scalar, which becomes a Python number."""

    def __init__(self, dtype: Any, data: Any = b"") -> None:
        self.dtype, self.data = dtype, data

    def build(self) -> Any:
        return _from_bytes(self.data, self.dtype, (1,), "C")[0].item()


class _Buffer:
    """Stands for `numpy._core.numeric._frombuffer`, the form of protocol 5."""

    def __init__(self, data: Any, dtype: Any, shape: Any, order: Any) -> None:
        self.arguments = (data, dtype, shape, order)

    @property
    def held(self) -> int:
        """Bytes that the array will take."""
        return _length(self.arguments[0])

    def build(self) -> np.ndarray[Any, Any]:
        return _from_bytes(*self.arguments)


def _length(data: Any) -> int:
    return len(data) if isinstance(data, str | bytes | bytearray) else 0


def _from_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
        raise pickle.UnpicklingError("an array whose type or shape is not one")
    # A pickle of Python 2 read as latin-1 gives text where bytes were meant.
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes | bytearray):
        raise pickle.UnpicklingError("an array whose content is no bytes")
    array = np.frombuffer(raw, dtype=dtype.build()).reshape(shape, order=_text(order))  # type: ignore[call-overload]
    # Torch takes arrays in the machine's own byte order only.
    return array.astype(array.dtype.newbyteorder("="))  # type: ignore[no-any-return]


def _reconstruct(subtype: Any, *_: Any) -> _Array:
    if subtype is not _NDARRAY:
        raise pickle.UnpicklingError("an array subclass")
    return _Array()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    # How Python 3 writes bytes with pickle protocols below 3; other codecs have no business here.
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"codec {encoding!r}")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    # How Python 3 writes b"" with pickle protocols below 3.
    return b""


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _no_array(*_: Any) -> Any:
    raise pickle.UnpicklingError("numpy.ndarray called")


_NDARRAY = Maker(_no_array)  # arrays name their class, but are made by _reconstruct

_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Dtype,
    **{(module, "bytes"): _empty_bytes for module in ("builtins", "__builtin__")},
    **{(module, "set"): set for module in ("builtins", "__builtin__")},
    **{(module, "frozenset"): frozenset for module in ("builtins", "__builtin__")},
    **{(module, "_reconstruct"): _reconstruct for module in _ARRAY_MODULES},
    **{(module, "scalar"): _Scalar for module in _ARRAY_MODULES},
    **{(module, "_frombuffer"): _Buffer for module in _NUMERIC_MODULES},
}


# The same without the wrapper, for torch's unpickler: it gives attributes to nothing but instances of these.
NUMPY_STAND_INS: dict[tuple[str, str], Any] = {
    name: stand_in for name, stand_in in _ALLOWED.items() if name[0] == "_codecs" or name[0].startswith("numpy")
} | {("clop_det", "_Array"): _Array}


def build(stand_in: Any) -> Any:
    """The array, or the number, that a stand-in of NumPy's stands for.

    Raises:
        pickle.UnpicklingError: its elements are no numbers.
    """
    return stand_in.build()


class ArrayUnpickler(pickle.Unpickler):
    """Knows the stand-ins above and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = _ALLOWED.get((module, name))
        if allowed is None:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return allowed if isinstance(allowed, Maker) else Maker(allowed)


def _finish(value: Any, done: dict[int, Any]) -> Any:
    """Replace stand-ins by arrays and numbers; what several containers name is made once, and named again.

    Args:
        value: what the file holds.
        done: id of a container -> what it became.
    """
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, _Array | _Scalar | _Buffer):
        finished = value.build()
    elif isinstance(value, dict):
        finished = {_finish(key, done): _finish(item, done) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        finished = type(value)(_finish(item, done) for item in value)
    elif value is None or isinstance(value, bool | int | float | str | bytes | set | frozenset):
        return value
    else:
        raise pickle.UnpicklingError(f"a {type(value).__name__}")
    done[id(value)] = finished
    return finished


_TRUST = "If you trust its author as you would a program, convert it once with --trust-pickle."


def read_array_pickle(path: Path, remedy: str = _TRUST) -> Any:
    """Content of a pickle of dictionaries, lists, tuples, text, numbers and numeric arrays.

    Args:
        path: the file.
        remedy: what the user can do if the file asks for more, for the error message.

    Raises:
        UserError: the file asks for anything else (named in the message; nothing was run), or is damaged.
    """
    return read_restricted(path, ArrayUnpickler, lambda content: _finish(content, {}), remedy)


def read_restricted(path: Path, unpickler: type[ArrayUnpickler], finish: Callable[[Any], Any], remedy: str) -> Any:
    """What `finish` makes of the content of a pickle, read by an unpickler that knows a few names; see above."""
    try:
        with open(path, "rb") as file:
            check_memo(file)
            content = unpickler(file, encoding="latin1").load()
        check_content(content, path)
        return finish(content)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is a pickle that is damaged or holds more than arrays and ordinary containers: {error}. Nothing in"
            f" it was run. {remedy}"
        ) from error
    except RecursionError as error:
        raise UserError(f"{path} is a pickle nested too deeply to hold arrays; download or copy it again.") from error
    except (
        OSError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        AttributeError,
        MemoryError,
    ) as error:
        raise UserError(
            f"cannot read {path} as a pickle of arrays ({type(error).__name__}: {error}); it is truncated, damaged or"
            " something else. Download or copy it again."
        ) from error
