"""Kernels that call one another are one piece of code in every process."""

import importlib
import pkgutil

from numba.core.dispatcher import Dispatcher

from wavedask import kernels


def compiled() -> list[Dispatcher]:
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(kernels.__path__, f"{kernels.__name__}.")
    ]
    found = {
        id(value): value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, Dispatcher)
    }
    return list(found.values())


def test_what_a_kernel_calls_is_inlined() -> None:
    callers = compiled()
    called = [
        kernel
        for caller in callers
        for name in caller.py_func.__code__.co_names
        if isinstance(kernel := caller.py_func.__globals__.get(name), Dispatcher)
    ]
    assert called
    linked = {k.py_func.__name__ for k in called if not k.targetoptions.get("forceinline")}
    assert not linked


def test_kernels_are_kept_on_disk_and_release_the_lock() -> None:
    for kernel in compiled():
        assert kernel.targetoptions["nogil"], kernel.py_func.__name__
        assert not kernel.targetoptions.get("parallel"), kernel.py_func.__name__
        assert kernel.stats.cache_path, kernel.py_func.__name__
