"""Change files at random, and read them in a process with limits of time and memory.

Run as a program, this module is that process: it takes the kind and the path of a file per line,
and answers with the processor time and what came of it.
"""

import json
import os
import random
import resource
import select
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

MUTATIONS: Final = int(os.environ.get("WAVEDASK_TEST_MUTATIONS", "200"))
"""Mutations of each format."""
SECONDS: Final = 2.0
"""Processor time of a mutation."""
PATIENCE: Final = 60.0
"""Seconds after which a mutation is taken for one that hangs; the machine may be busy."""
MEMORY: Final = 2**30
KINDS: Final = ("bit", "byte", "cut", "zeros", "twice", "empty", "gap", "digit", "number", "copy")
NUMBERS: Final = (0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, 2**40, 10**15)

EQUAL, READ, REFUSED = "equal", "read", "refused"
"""As the whole file; with other contents, as of a changed pixel; an error of wavedask."""


def mutated(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    """Change the content of a file as a bad disk or a bad mind would; and say how."""
    data = bytearray(content)
    kind = chance.choice(KINDS)
    # Most of what can go wrong is in the headers, which come first.
    where = chance.randrange(min(len(data), chance.choice((256, 2048, len(data)))))
    if kind == "bit":
        data[where] ^= 1 << chance.randrange(8)
    elif kind == "byte":
        data[where] = chance.randrange(256)
    elif kind == "cut":
        del data[where:]
    elif kind == "zeros":
        data[where : where + 64] = bytes(len(data[where : where + 64]))
    elif kind == "twice":
        data += bytes(data)
    elif kind == "empty":
        data.clear()
    elif kind == "gap":
        data[where:where] = bytes(chance.randrange(1, 32))
    elif kind == "digit":
        places = [place for place, byte in enumerate(data[: 2**16]) if chr(byte).isdigit()]
        if places:
            where = chance.choice(places)
            data[where : where + 1] = chance.choice((b"9", b"-", b"99999999", b"1e300", b"nan"))
    elif kind == "number":
        size, order = chance.choice((2, 4, 8)), chance.choice(("little", "big"))
        number = chance.choice(NUMBERS) % 2 ** (8 * size)
        data[where : where + size] = number.to_bytes(size, order)
    elif kind == "copy":
        start, size = chance.randrange(len(data)), chance.randrange(1, 256)
        data[where : where + size] = data[start : start + size]
    return bytes(data), f"{kind} at {where}"


class Reader:
    """A process that reads files within limits; started again after a file that ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def read(self, kind: str, path: Path, whole: Path | None = None) -> tuple[float, str]:
        """Read a file; the processor time, and what came of it."""
        process = self._started()
        assert process.stdin is not None
        process.stdin.write(json.dumps([kind, str(path), str(whole or "")]) + "\n")
        process.stdin.flush()
        answer = self._line(process)
        if answer is None:
            self._end()
            return PATIENCE, "HANGS"
        if not answer:
            process.wait(10)
            said = f"DIES with {process.returncode}"
            self._end()
            return 0.0, said
        seconds, _, said = answer.strip().partition(" ")
        return float(seconds), said

    def _line(self, process: subprocess.Popen[str]) -> str | None:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        return process.stdout.readline() if ready else None

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            # The folder of the tests is not that of the module.
            path = os.pathsep.join(
                [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
            )
            self._process = subprocess.Popen(
                [sys.executable, "-m", "support.mutation"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
            )
            assert self._line(self._process) == "ready\n"
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def falls(
    reader: Reader,
    kind: str,
    make: Callable[[Path], Path],
    folder: Path,
    *,
    files: Callable[[Path], Sequence[Path]] = lambda path: [path],
    seed: int,
) -> tuple[list[str], int]:
    """Mutate a file many times, and list the mutations that end otherwise than they should.

    Parameters
    ----------
    reader : Reader
        The process that reads.
    kind : str
        How to read it, see `READERS`.
    make : callable
        Writes the whole file, or several, into a folder, and returns the path to open.
    folder : Path
        A new folder.
    files : callable
        The files to change, given the path to open.
    seed : int
        Seed of the mutations.

    Returns
    -------
    list of str
        What fell.
    int
        How many were refused.
    """
    chance = random.Random(f"{seed} {kind}")
    whole = folder / "whole"
    whole.mkdir()
    path = make(whole)
    targets = list(files(path))
    contents = {target: target.read_bytes() for target in targets}
    fallen, refused = [], 0
    assert reader.read(kind, path, path)[1] == EQUAL
    for number in range(MUTATIONS):
        changed = folder / str(number)
        changed.mkdir()
        for file in whole.rglob("*"):
            if file.is_file() and file not in contents:
                (changed / file.relative_to(whole)).symlink_to(file)
        chosen = chance.choice(targets)
        done = ""
        for target, content in contents.items():
            if target == chosen:
                content, done = mutated(content, chance)
            (changed / target.relative_to(whole)).write_bytes(content)
        again = changed / path.relative_to(whole)
        seconds, said = reader.read(kind, again, path)
        if said not in (EQUAL, READ, REFUSED) or seconds > SECONDS:
            fallen.append(f"{done} of {chosen.name} ({again}): {said} after {seconds:.1f} s")
        refused += said == REFUSED
    return fallen, refused


def _scan(path: Path) -> Any:
    from wavedask.io import open_scan

    scan = open_scan(path, progress=False)
    # Of a file that announces more than memory holds, its frames are read one by one.
    scan[{"frame": slice(0, 4)}].compute(scheduler="synchronous")
    return scan.drop_attrs().compute(scheduler="synchronous") if scan.nbytes < 2**24 else None


def _hdf5(path: Path) -> Any:
    from wavedask.io import list_scans

    list_scans(path)
    return _scan(path)


def _mask(path: Path) -> Any:
    import xarray as xr

    from wavedask.io import read_mask

    return xr.Dataset({"mask": (("y", "x"), read_mask(path))})


def _experiment(path: Path) -> Any:
    from wavedask.experiment import load_experiment

    return load_experiment(path)


def _positions(path: Path) -> Any:
    from wavedask.io import open_scan

    return open_scan(path.parent / "frames.tif", motors=path, progress=False).drop_attrs().compute()


def _store(path: Path) -> Any:
    import wavedask as wd
    from wavedask.errors import StoreError
    from wavedask.store import verify

    found = wd.open_store(path).load()
    if verify(path, progress=False).lost:
        raise StoreError("frames are lost")
    return found


READERS: Final[dict[str, Callable[[Path], Any]]] = {
    "scan": _scan,
    "hdf5": _hdf5,
    "mask": _mask,
    "experiment": _experiment,
    "positions": _positions,
    "store": _store,
}


def _outcome(kind: str, path: str, known: Any) -> tuple[str, Any]:
    from wavedask.errors import WavedaskError

    try:
        found = READERS[kind](Path(path))
    except WavedaskError:
        return REFUSED, None
    except Exception as error:
        return f"TRACEBACK {type(error).__name__}: {error}".replace("\n", " ")[:200], None
    same = found.identical(known) if hasattr(known, "identical") else found == known
    return EQUAL if same else READ, found


def main() -> None:
    """Read what standard input names."""
    import wavedask.experiment
    import wavedask.io  # noqa: F401 - imported before memory is limited

    warnings.simplefilter("ignore")
    print("ready", flush=True)
    known: dict[tuple[str, str], Any] = {}
    for line in sys.stdin:
        kind, path, whole = json.loads(line)
        if (kind, whole) not in known:
            # This imports what else is needed. Beyond it, allocations fail, and are told as such.
            known[kind, whole] = _outcome(kind, whole, None)[1]
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
        begin = time.process_time()
        said, _ = _outcome(kind, path, known[kind, whole])
        print(f"{time.process_time() - begin:.3f} {said}", flush=True)


if __name__ == "__main__":
    main()
