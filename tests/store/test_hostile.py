"""A store that was damaged or made by an attacker is refused: fast, in little memory, by name."""

import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import wavedask as wd
from wavedask.errors import StoreError
from wavedask.store.checked import problem_of
from wavedask.store.integrity import verify
from wavedask.store.metadata import ArrayLayout, checksum_of

FRAMES = 6
MUTATIONS = int(os.environ.get("WAVEDASK_TEST_MUTATIONS", "200"))
SECONDS = 2.0
MEMORY = 2**30
DIMS = ("frame", "y", "x")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pristine") / "r.zarr"
    rng = np.random.default_rng(0)
    maps = da.from_array(rng.standard_normal((FRAMES, 16, 16)).astype("f4"), chunks=(1, 16, 16))
    dataset = xr.Dataset(
        {"slope_y": (DIMS, maps), "slope_x": (DIMS, 2 * maps)},
        {
            "lens_x": ("frame", np.arange(FRAMES) / 8, {"units": "mm", "role": "motor"}),
            "name": ("frame", [f"frame {n}" for n in range(FRAMES)]),
            "time": ("frame", np.array(["2026-11-22"] * FRAMES, "M8[ns]")),
            "sample": "lens",
            "energy": 17.0,
        },
    )
    wd.write_store(path, dataset, settings={"track": {"window": 21}}, progress=False)
    return path


def copied(pristine: Path, folder: Path) -> Path:
    target = folder / "r.zarr"
    for file in pristine.rglob("*"):
        if file.is_file():
            copy = target / file.relative_to(pristine)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    return target


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any], *, signed: bool = True) -> None:
    """Change the metadata of a store as an attacker would, who can compute a checksum too."""
    file = path / "zarr.json"
    document = json.loads(file.read_text())
    change(document)
    if signed:
        document["attributes"]["wavedask_checksum"] = checksum_of(document)
    file.write_text(json.dumps(document))


def of(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["consolidated_metadata"]["metadata"][name]
    return found


PICKLE = {
    "zarr_format": 2,
    "shape": [1],
    "chunks": [1],
    "dtype": "|O",
    "fill_value": None,
    "order": "C",
    "filters": [{"id": "pickle", "protocol": 5}],
    "compressor": None,
    "attributes": {},
}

ATTACKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a Zarr v2 array with the codec pickle": lambda d: d["consolidated_metadata"][
        "metadata"
    ].update(name=PICKLE),
    "the codec pickle in Zarr v3": lambda d: of(d, "name").update(
        codecs=[{"name": "numcodecs.pickle"}]
    ),
    "another codec in front": lambda d: of(d, "slope_y")["codecs"].insert(
        0, {"name": "numcodecs.delta", "configuration": {"dtype": "<f4"}}
    ),
    "a sharding codec": lambda d: of(d, "slope_y").update(
        codecs=[{"name": "sharding_indexed", "configuration": {}}]
    ),
    "Python objects": lambda d: of(d, "lens_x").update(data_type="object"),
    "a structured type": lambda d: of(d, "lens_x").update(data_type={"name": "struct"}),
    "an array called ..": lambda d: d["consolidated_metadata"]["metadata"].update(
        {"../other": of(d, "lens_x")}
    ),
    "another chunk grid": lambda d: of(d, "lens_x").update(chunk_grid={"name": "rectilinear"}),
    "other chunk keys": lambda d: of(d, "lens_x").update(chunk_key_encoding={"name": "v2"}),
    "a storage transformer": lambda d: of(d, "lens_x").update(storage_transformers=[{"name": "a"}]),
    "a million million frames": lambda d: [
        of(d, name).update(shape=[10**12, *of(d, name)["shape"][1:]])
        for name in d["consolidated_metadata"]["metadata"]
        if of(d, name)["shape"][:1] == [FRAMES]
    ],
    "more frames than others": lambda d: of(d, "lens_x").update(shape=[7]),
    "a huge chunk": lambda d: of(d, "lens_x").update(
        chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2**38]}}
    ),
    "a larger chunk": lambda d: of(d, "lens_x").update(
        chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2**20]}}
    ),
    "another data type": lambda d: of(d, "lens_x").update(data_type="float32"),
    "a negative shape": lambda d: of(d, "lens_x").update(shape=[-6]),
    "no ledger": lambda d: d["consolidated_metadata"]["metadata"].pop("complete"),
    "no arrays": lambda d: d["consolidated_metadata"].update(metadata={}),
    "consolidated metadata that is a list": lambda d: d.update(consolidated_metadata=[1]),
    "two dimensions of one name": lambda d: of(d, "slope_y").update(
        dimension_names=["frame", "y", "y"]
    ),
    "a unit of time that is none": lambda d: of(d, "time")["attributes"].update(
        units="fortnights since yesterday"
    ),
    "an array without its chunks": lambda d: d["consolidated_metadata"]["metadata"].update(
        ghost=of(d, "lens_x")
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_this_package_does_not_write_is_refused(
    attack: str, pristine: Path, tmp_path: Path
) -> None:
    path = copied(pristine, tmp_path)
    rewrite(path, ATTACKS[attack])
    with pytest.raises(StoreError, match=r"r\.zarr"):
        wd.open_store(path).load()


def test_no_code_of_a_store_is_run(pristine: Path, tmp_path: Path) -> None:
    path = copied(pristine, tmp_path)
    rewrite(path, ATTACKS["a Zarr v2 array with the codec pickle"])
    witness = tmp_path / "witness"
    (path / "name" / "0").write_bytes(b"cos\nsystem\n(S'touch " + str(witness).encode() + b"'\ntR.")
    for read in (wd.open_store, verify):
        with pytest.raises(StoreError, match="'name'"):
            read(path)
    assert not witness.exists()


def test_metadata_that_was_changed_by_hand_is_noticed(pristine: Path, tmp_path: Path) -> None:
    path = copied(pristine, tmp_path)
    rewrite(path, lambda d: of(d, "lens_x")["attributes"].update(units="m"), signed=False)
    with pytest.raises(StoreError, match="checksum does not match"):
        wd.open_store(path).load()


def test_a_store_without_consolidated_metadata_is_checked_alike(
    pristine: Path, tmp_path: Path
) -> None:
    path = copied(pristine, tmp_path)
    rewrite(path, lambda d: d.pop("consolidated_metadata"))
    xr.testing.assert_identical(wd.open_store(path).load(), wd.open_store(pristine).load())
    file = path / "name" / "zarr.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "codecs": [{"name": "numcodecs.pickle"}]}))
    with pytest.raises(StoreError, match=r"numcodecs\.pickle"):
        wd.open_store(path).load()


def test_metadata_without_end_are_refused(pristine: Path, tmp_path: Path) -> None:
    path = copied(pristine, tmp_path)
    with (path / "zarr.json").open("ab") as file:
        file.truncate(10**12)
    with pytest.raises(StoreError, match="it has 1000000000000 bytes, more than"):
        wd.open_store(path)


@pytest.mark.parametrize(
    ("content", "codecs", "size"),
    [
        (b"\x28\xb5\x2f\xfd\xe0" + (2**50).to_bytes(8, "little") + b"a" * 20, ("zstd",), 8),
        (b"\x28\xb5\x2f\xfd\xe0" + (2**50).to_bytes(8, "little") + b"a" * 20, ("zstd",), 0),
        (b"\x02\x01\x21\x04" + b"\xff" * 8 + (40).to_bytes(4, "little") + b"a" * 24, ("blosc",), 8),
        (b"\x28\xb5", ("zstd",), 8),
        (b"\x02\x01", ("blosc",), 8),
        ((10**9).to_bytes(4, "little"), (), 0),
        ((1).to_bytes(4, "little") + b"\xff\xff\xff\x7f", (), 0),
        ((1).to_bytes(4, "little") + b"\x01\x00\x00\x00\xff", (), 0),
        (b"", (), 8),
    ],
)
def test_a_chunk_that_promises_more_than_it_holds(
    content: bytes, codecs: tuple[str, ...], size: int
) -> None:
    serializer = "bytes" if size else "vlen-utf8"
    layout = ArrayLayout(("frame",), (1,), (1,), size, (serializer, *codecs))
    assert problem_of(content, layout)


def mutated(path: Path, chance: random.Random) -> str:
    """Change one file of a store as a bad disk or a bad mind would; what was done."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    file = chance.choice(files)
    content = bytearray(file.read_bytes())
    kind = chance.choice(["bit", "byte", "cut", "zeros", "twice", "gone", "empty", "other"])
    where = chance.randrange(len(content)) if content else 0
    if kind == "bit" and content:
        content[where] ^= 1 << chance.randrange(8)
    elif kind == "byte" and content:
        content[where] = chance.randrange(256)
    elif kind == "cut":
        del content[where:]
    elif kind == "zeros":
        content[where : where + 64] = bytes(len(content[where : where + 64]))
    elif kind == "twice":
        content += bytes(content)
    elif kind == "empty":
        content.clear()
    elif kind == "other":
        # Another valid chunk in its place.
        chunks = [one for one in files if one.name != "zarr.json"]
        file = chance.choice(chunks)
        content = bytearray(chance.choice(chunks).read_bytes())
    if kind == "gone":
        file.unlink()
    else:
        file.write_bytes(content)
    return f"{kind} at {where} of {file.relative_to(path)}"


READER = """
import resource, sys, time
import numpy as np
import wavedask as wd
from wavedask.errors import StoreError
from wavedask.store.integrity import verify

def read(path):
    try:
        # Everything that a store is used for.
        opened = wd.open_store(path)
        opened.load()
        if opened.identical(whole):
            return "equal"
        # A valid chunk in the place of another one: only the digests of the frames tell.
        return "refused" if verify(path).lost else "DIFFERENT"
    except StoreError:
        return "refused"
    except Exception as error:
        return f"TRACEBACK {type(error).__name__}: {error}"[:200]

whole = wd.open_store(sys.argv[1]).load()
verify(sys.argv[1])
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
# Allocations beyond it fail, and are told as such.
limit = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (limit + int(sys.argv[2]),) * 2)
print("ready", flush=True)
for line in sys.stdin:
    begin = time.process_time()
    said = read(line.strip())
    print(f"{time.process_time() - begin:.3f} {said}", flush=True)
"""


def test_every_mutation_is_refused_fast_or_changes_nothing(pristine: Path, tmp_path: Path) -> None:
    seed = int(os.environ.get("WAVEDASK_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"to repeat: WAVEDASK_TEST_SEED={seed}")
    chance = random.Random(seed)
    stores = []
    for number in range(MUTATIONS):
        folder = tmp_path / str(number)
        path = copied(pristine, folder)
        done = mutated(path, chance)
        stores.append((path, done))
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(pristine), str(MEMORY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (300, 300)),
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        refused = 0
        for path, done in stores:
            reader.stdin.write(f"{path}\n")
            reader.stdin.flush()
            seconds, _, said = reader.stdout.readline().strip().partition(" ")
            assert said in ("refused", "equal"), f"{done}: {said}"
            assert float(seconds) < SECONDS, f"{done}: {seconds} s"
            refused += said == "refused"
        reader.stdin.close()
    # Some change nothing that is read, such as the metadata of an array that is consolidated.
    assert refused > MUTATIONS / 3
