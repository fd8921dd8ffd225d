from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from clop_det.checkpoints.array_pickle import read_array_pickle
from clop_det.errors import UserError

_DTYPES = st.sampled_from(["?", "i1", "u1", "<i2", "<i4", "<i8", ">i4", "<f2", "<f4", ">f4", "<f8"])


def _write(path: Path, value: Any, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=_DTYPES.flatmap(lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=4, min_side=0))),
    protocol=st.integers(0, 5),
    fortran=st.booleans(),
)
def test_arrays_come_back_bit_by_bit(tmp_path: Path, array: Any, protocol: int, fortran: bool):
    array = np.asfortranarray(array) if fortran else array
    read = read_array_pickle(_write(tmp_path / "a.pkl", {"model": {"w": array}}, protocol))["model"]["w"]
    native = array.astype(array.dtype.newbyteorder("="))
    assert (read.dtype, read.shape, read.tobytes()) == (native.dtype, native.shape, native.tobytes())
    torch.from_numpy(read)


def test_detectron2_layout_with_ordinary_containers(tmp_path: Path):
    content = {
        "model": OrderedDict(w=np.float32([1, 2])),
        "__author__": "someone",
        "matching_heuristics": True,
        "other": [1, (2.5, None), {"x": {3}}, b"bytes", np.float64(0.5), np.int64(7)],
    }
    read = read_array_pickle(_write(tmp_path / "a.pkl", content))
    assert read["__author__"] == "someone"
    assert read["matching_heuristics"] is True
    assert read["other"] == [1, (2.5, None), {"x": {3}}, b"bytes", 0.5, 7]
    assert read["model"]["w"].tolist() == [1, 2]


def test_a_pickle_of_python_2(tmp_path: Path):
    # What Python 2 and NumPy 1 wrote: byte strings for text and for the array's content.
    value = np.array([1.0, -2.0], dtype="<f4")
    python2 = (
        b"\x80\x02}q\x00U\x01wq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b"
        b"\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
        b"tb\x89U\x08" + value.tobytes() + b"tbs."
    )
    path = tmp_path / "a.pkl"
    path.write_bytes(python2)
    np.testing.assert_array_equal(read_array_pickle(path)["w"], value)


class _Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_a_pickle_that_runs_something_is_not_run(tmp_path: Path):
    marker = tmp_path / "ran"
    path = _write(tmp_path / "a.pkl", {"model": {"w": np.zeros(2)}, "x": _Bomb(marker)})
    with pytest.raises(UserError, match=r"mkdir.*--trust-pickle"):
        read_array_pickle(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists(), "the test's pickle would not have run anything: it proves nothing"


@pytest.mark.parametrize(
    "code",
    [
        b"cbuiltins\neval\n(S'1+1'\ntR.",
        b"c__builtin__\neval\n(S'1+1'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cbuiltins\nobject\nK\x00\x85S'b'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"c_codecs\nencode\n(S'abc'\nS'zlib'\ntR.",
        b"cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR.",
        b"ccollections\nOrderedDict\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
        b"P1\n.",
        b"cnumpy.core.multiarray\nscalar\n(N}S'build'\nS'x'\nstb.",
        b"ccollections\nOrderedDict\n(N}S'x'\nS'x'\nstb.",
        b"cnumpy\nndarray\n(I2\ntR.",
        # A whole number in the place of an array's bytes: bytes(n) would be n zeros.
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(L9999999999L\ntcnumpy\ndtype\n"
        b"(S'u1'\ntRI00\nL9999999999L\ntb.",
        b"cnumpy._core.numeric\n_frombuffer\n(L9999999999L\ncnumpy\ndtype\n(S'u1'\ntR(L9999999999L\ntS'C'\ntR.",
        b"garbage",
        b"\x80\x02}",
        b"",
    ],
)
def test_hostile_and_broken_pickles_are_refused(tmp_path: Path, code: bytes):
    path = tmp_path / "a.pkl"
    path.write_bytes(code)
    with pytest.raises(UserError):
        read_array_pickle(path)


def test_object_arrays_are_refused(tmp_path: Path):
    path = _write(tmp_path / "a.pkl", np.array([object, None], dtype=object))
    with pytest.raises(UserError):
        read_array_pickle(path)


def test_memory_flags_of_a_type_in_the_file_are_ignored(tmp_path: Path):
    # NumPy's own dtype.__setstate__ would take "this type holds references" from the file.
    clean = pickle.dumps(np.array([1.0, 2.0], dtype="<f4"), protocol=2)
    forged = clean.replace(b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t", b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ft")
    assert forged != clean
    path = tmp_path / "a.pkl"
    path.write_bytes(forged)
    assert read_array_pickle(path).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_truncated_pickle_is_refused(tmp_path: Path, cut: int):
    path = _write(tmp_path / "a.pkl", {"model": {"w": np.arange(100, dtype=np.float32)}})
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UserError, match=r"a\.pkl"):
        read_array_pickle(path)


def test_a_file_cannot_change_the_reader_for_the_next_one(tmp_path: Path):
    (tmp_path / "bad.pkl").write_bytes(b"cnumpy.core.multiarray\nscalar\n(N}S'build'\nS'x'\nstb0N.")
    with pytest.raises(UserError, match="state for something that has none"):
        read_array_pickle(tmp_path / "bad.pkl")
    assert read_array_pickle(_write(tmp_path / "a.pkl", {"x": np.float64(0.5)})) == {"x": 0.5}
