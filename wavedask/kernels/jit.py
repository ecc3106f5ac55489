"""How the kernels are compiled."""

from typing import Any, Final

JIT: Final[dict[str, Any]] = {
    "nogil": True,
    "cache": True,
    "fastmath": True,
    "error_model": "numpy",
}
"""Options of a kernel that Python calls: one thread, without the GIL, kept on disk."""

INLINED: Final[dict[str, Any]] = {**JIT, "forceinline": True}
"""Options of a kernel that other kernels call.

Were it linked rather than inlined, the process that compiles would run the code of the kernel
alone, and those that load from the disk the copy in its caller, which the optimiser has treated
once more: with sums in another order, the last bits of a result would tell who compiled.
"""
