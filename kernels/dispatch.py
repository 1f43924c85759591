"""Which implementation of an op runs: the type of the arrays decides, or the caller names one.

Every op family holds three modules with the same function names and signatures: `reference` (NumPy, obviously right),
`cpu` (Numba) and `gpu` (Triton). An explicit choice succeeds or says why not; nothing falls back silently.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Set
from difflib import get_close_matches
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

BACKENDS = ("reference", "numba", "triton")

F = TypeVar("F", bound=Callable[..., Any])


class BackendError(RuntimeError):
    """A backend that was asked for cannot run here; the message gives the reason and the way out."""


def jit(function: F, fastmath: Set[str] = frozenset()) -> F:
    """Compile with Numba: no GIL, cached on disk, so that a second process does not pay for compilation.

    Strict IEEE arithmetic, unless `fastmath` names what may be relaxed: results must not depend on how the compiler
    reorders a sum.
    """
    import numba

    from . import compilation
    from .cache import KernelCache

    compiled: Any = numba.njit(function, nogil=True, error_model="numpy", fastmath=set(fastmath) or False)
    if hasattr(compiled, "_cache"):  # unless NUMBA_DISABLE_JIT is set
        compiled._cache = KernelCache(function)  # as its enable_caching does, whose places are Numba's
        compilation.register(function)
    return compiled  # type: ignore[no-any-return]


def inline(function: F) -> F:
    """Compile with Numba for use inside other compiled functions."""
    import numba

    compiled: F = numba.njit(function, nogil=True, forceinline=True, error_model="numpy")
    return compiled


def why_not(backend: str) -> str:
    """Return the reason why `backend` cannot run on this machine, or an empty string if it can."""
    if backend == "reference":
        return ""
    if backend == "numba":
        return "" if importlib.util.find_spec("numba") else "numba is not installed: pip install numba"
    if backend == "triton":
        for name in ("torch", "triton"):
            if importlib.util.find_spec(name) is None:
                return f"{name} is not installed: pip install 'affectcore[gpu]'"
        if os.environ.get("TRITON_INTERPRET") == "1":
            return ""
        import torch

        if not torch.cuda.is_available():
            return (
                "torch sees no GPU; choose backend numba, or set TRITON_INTERPRET=1 to run the kernels in "
                "Triton's interpreter (for tests: it is slow)"
            )
        return ""
    raise unknown(backend)


def unknown(backend: str) -> BackendError:
    """Build the error for a backend name that does not exist."""
    close = get_close_matches(backend, ["auto", *BACKENDS], 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return BackendError(f"unknown backend {backend!r}{hint}: choose auto, {', '.join(BACKENDS)}")


def available() -> dict[str, str]:
    """Map each backend to `"ok"` or to the reason why it cannot run here."""
    return {name: why_not(name) or "ok" for name in BACKENDS}


def check(backend: str) -> str:
    """Return the backend that `backend` stands for (`auto` is `numba`), or raise `BackendError` with the reason."""
    name = "numba" if backend == "auto" else backend
    reason = why_not(name)
    if reason:
        raise BackendError(f"backend {name} cannot run here: {reason}")
    return name


_found: dict[tuple[str, str], ModuleType] = {}
"""Implementations that can run, by family and backend."""


def is_tensor(array: object) -> bool:
    """Tell whether `array` is a torch tensor, without importing torch."""
    return type(array).__module__.partition(".")[0] == "torch"


def implementation(family: str, backend: str, *arrays: object) -> ModuleType:
    """Return the module of `family` (for example `"words"`) that works on `arrays`.

    Parameters
    ----------
    family
        Folder of the op family.
    backend
        `auto` (NumPy arrays: numba; torch tensors: triton) or a name from `BACKENDS`.
    *arrays
        The op's array arguments: all NumPy or all torch.

    Raises
    ------
    BackendError
        If arrays of both kinds are mixed, or the backend cannot run.
    """
    # NumPy arrays alone are the usual case, and short texts make many such calls.
    tensors = 0 if set(map(type, arrays)) <= {np.ndarray} else sum(is_tensor(a) for a in arrays)
    if tensors not in (0, len(arrays)):
        raise BackendError("NumPy arrays and torch tensors are mixed; move all of them to one side first")
    if backend == "auto":
        backend = "triton" if tensors else "numba"
    elif tensors and backend in ("reference", "numba"):
        raise BackendError(f"backend {backend} works on NumPy arrays, not on torch tensors: call .cpu().numpy() first")
    found = _found.get((family, backend))
    if found is not None:
        return found
    module = {"reference": "reference", "numba": "cpu", "triton": "gpu"}.get(backend)
    if module is None:
        raise unknown(backend)
    reason = why_not(backend)
    if reason:
        raise BackendError(f"backend {backend} cannot run here: {reason}")
    found = importlib.import_module(f"{__package__}.{family}.{module}")
    if backend != "triton":  # whether that can run depends on the environment, too, and is asked each time
        _found[family, backend] = found
    return found


def place(arrays: Any, backend: str) -> Any:
    """Return `arrays` (an array, or nested tuples of them) as `backend` takes them.

    For `triton` NumPy arrays become torch tensors on the GPU (on the CPU under Triton's interpreter), uint64 as int64
    of the same bits; other backends take NumPy arrays as they are.
    """
    if backend != "triton":
        return arrays
    if isinstance(arrays, tuple):
        parts = [place(a, backend) for a in arrays]
        return type(arrays)(*parts) if hasattr(arrays, "_fields") else tuple(parts)
    import torch

    array = np.ascontiguousarray(arrays)
    if array.dtype == np.uint64:
        array = array.view(np.int64)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # torch has no read-only tensors and warns of arrays that are: Arrow's buffers are, so they are copied once.
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)


def fetch(arrays: Any) -> Any:
    """Return `arrays` (an array or tensor, or nested tuples of them) as NumPy arrays."""
    if type(arrays) is np.ndarray:
        return arrays
    if isinstance(arrays, tuple):
        if set(map(type, arrays)) <= {np.ndarray}:
            return arrays
        parts = [fetch(a) for a in arrays]
        return type(arrays)(*parts) if hasattr(arrays, "_fields") else tuple(parts)
    return arrays.cpu().numpy() if is_tensor(arrays) else arrays
