"""The JSON schema that is shipped for editors is that of the experiment file."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from wavedask.experiment import SCHEMA, Experiment

DOCS = Path(__file__).parents[2] / "docs" / "experiment.md"
WHOLE: dict[str, Any] = {
    "sample": "a.edf",
    "reference": ["b.edf", "c.edf"],
    "dark": {"files": "d.edf", "units": {"lens_x": "mm"}},
    "wavefront": {"distance": 1.0, "pixel_size": [1e-6, 1e-6]},
    "output": "results.zarr",
}


@pytest.fixture(scope="module")
def checker() -> Any:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_file_is_up_to_date() -> None:
    # To write it again: print(json.dumps(Experiment.model_json_schema(), indent=1)).
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == Experiment.model_json_schema()


def test_the_examples_of_the_documentation_fit(checker: Any) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    for block in blocks:
        # Editors read YAML 1.2, in which 1e-6 is a number; for PyYAML it is a text.
        numbers = re.sub(r"(?<![\d.])(\d+)e-", r"\1.0e-", block)
        checker.validate(WHOLE | yaml.safe_load(numbers))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"smaple": "a.edf"}, "smaple"),
        ({"track": {"widow": 21}}, "widow"),
        ({"sample": 3}, "3 is not valid"),
        ({"sample": {"file": "a.edf"}}, "is not valid under any"),
        ({"wavefront": {"distance": 1.0, "pixel_size": "small"}}, "is not valid under any"),
        ({"output": None}, "not of type 'string'"),
    ],
)
def test_mistakes_are_found(changes: dict[str, Any], words: str, checker: Any) -> None:
    checker.validate(WHOLE)
    (error,) = checker.iter_errors(WHOLE | changes)
    assert words in error.message
