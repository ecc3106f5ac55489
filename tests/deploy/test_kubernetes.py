"""The chart and the manifests of Kubernetes: checked by the real tools, and their pods run here."""

import copy
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
import yaml
from deploy.support.kubernetes import (
    CHART,
    DEPLOY,
    REPOSITORY,
    VERSIONS,
    Resource,
    Tools,
    pod_labels,
    pod_specs,
)
from deploy.support.network import Peer, allowed
from deploy.support.pods import Pod, cleaned, free_port
from support.commands import python_m
from support.experiments import assert_equal, write

import wavedask
from wavedask.store import open_store

pytestmark = pytest.mark.deploy

KUBERNETES = DEPLOY / "kubernetes"
CUSTOM = "kubernetes.dask.org/v1"
VARIANTS = {
    "cluster": (),
    "job": ("mode=job",),
    "tls": ("tls.secret=certificates", "dashboard=false"),
    "tls job": ("mode=job", "tls.secret=certificates", "dashboard=false"),
    "everything": (
        "autoscale.enabled=true",
        "idleTimeout=3600",
        f"image.digest=sha256:{'0123456789abcdef' * 4}",
        "image.pullSecrets={one,two}",
        "user.fsGroup=2000",
        "user.groups={3000,3001}",
        "nodeSelector.disk=fast",
        "tolerations[0].key=beamline,tolerations[0].operator=Exists",
        "network.clientNamespaces={hub}",
        "network.egress[0].ports[0].port=443",
        "workers.replicas=3",
    ),
}


@pytest.fixture(scope="session")
def variants(tools: Tools) -> dict[str, list[Resource]]:
    """The chart rendered with several values, and the manifests that are written by hand."""
    rendered = {name: tools.rendered(*settings) for name, settings in VARIANTS.items()}
    for file in ("client", "volumes", "user-role"):
        rendered[file] = list(yaml.safe_load_all((KUBERNETES / f"{file}.yaml").read_text()))
    return rendered


@pytest.fixture(scope="session")
def objects(tools: Tools, variants: dict[str, list[Resource]]) -> dict[str, list[Resource]]:
    """The same, with what the operator makes of its resources."""
    return tools.made_by_operator(variants)


def of_kind(kind: str, resources: list[Resource]) -> list[Resource]:
    return [resource for resource in resources if resource["kind"] == kind]


def test_helm_lint_has_nothing_to_say(tools: Tools) -> None:
    done = tools.helm("lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARN" not in done.stdout + done.stderr


def test_the_manifests_without_helm_are_those_of_the_chart(tools: Tools, tmp_path: Path) -> None:
    copied = shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    written = [copied / "daskcluster.yaml", copied / "daskjob.yaml"]
    for file in written:
        file.unlink()
    helm = str(tools.folder / "helm")
    environment = {**os.environ, "PATH": os.pathsep.join((helm, os.environ["PATH"]))}
    subprocess.run([copied / "render.sh"], check=True, timeout=60, env=environment)
    for file in written:
        assert file.read_text() == (KUBERNETES / file.name).read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_every_object(
    objects: dict[str, list[Resource]], tools: Tools, version: str, tmp_path: Path
) -> None:
    every = [resource for resources in objects.values() for resource in resources]
    kinds = {resource["kind"] for resource in every}
    assert kinds == {
        "Deployment",
        "Service",
        "Pod",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "Role",
    }
    assert tools.mistakes(every, version, tmp_path) == []


def test_a_misspelt_key_of_a_pod_is_noticed(
    objects: dict[str, list[Resource]], tools: Tools, tmp_path: Path
) -> None:
    [deployment, *_] = copy.deepcopy(of_kind("Deployment", objects["cluster"]))
    spec = deployment["spec"]["template"]["spec"]
    spec["containers"][0]["securityContext"]["readonlyRootFilesystem"] = True
    assert tools.mistakes([deployment], VERSIONS[0], tmp_path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_operator_accepts_its_resources(
    variants: dict[str, list[Resource]], tools: Tools, variant: str
) -> None:
    custom = [each for each in variants[variant] if each["apiVersion"] == CUSTOM]
    assert len(custom) == (2 if variant == "everything" else 1)
    for resource in custom:
        assert tools.custom_mistakes(resource) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "worker", "replicas"), "two"),
        (("spec", "worker", "replica"), 2),
        (("spec", "scheduler", "spec", "containers", 0, "livenessprobe"), {}),
        (("spec", "idleTimeOut"), 3),
    ],
)
def test_a_mistake_in_a_resource_is_noticed(
    variants: dict[str, list[Resource]], tools: Tools, path: tuple[Any, ...], value: Any
) -> None:
    [resource] = copy.deepcopy(of_kind("DaskCluster", variants["cluster"]))
    part = resource
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    assert tools.custom_mistakes(resource)


REFUSED = [
    # The value, and what the message must name.
    ("mode=both", "/mode"),
    ("replicas=2", "additional properties 'replicas'"),
    ("workers.replica=2", "additional properties 'replica'"),
    ("workers.replicas=-1", "/workers/replicas"),
    ("workers.replicas=two", "/workers/replicas"),
    ("workers.memory=4", "/workers/memory"),
    ("workers.memory=4GB", "/workers/memory"),
    ("workers.memory=900Mi", "/workers/memory"),
    ("scheduler.memory=0.5Gi", "/scheduler/memory"),
    ("workers.cpu=0", "/workers/cpu"),
    ("workers.cpu=many", "/workers/cpu"),
    ("workers.scratch=all", "/workers/scratch"),
    ("scheduler.memory=null", "memory"),
    ("image.repository=Wavedask", "/image/repository"),
    ("image.tag=a b", "/image/tag"),
    ("image.digest=sha256:12", "/image/digest"),
    ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
    ("user.uid=0", "/user/uid"),
    ("user.gid=0", "/user/gid"),
    ("user.uid=root", "/user/uid"),
    ("data.path=data", "/data/path"),
    ("data.path=/data/../etc", "/data/path"),
    ("results.path=/opt/wavedask", "/results/path"),
    ("results.path=/", "/results/path"),
    ("data.claim=Raw Data", "/data/claim"),
    ("data.claim=null", "claim"),
    ("job.experiment=experiment.yaml", "/job/experiment"),
    ("job.experiment=/results/run.json", "/job/experiment"),
    ("autoscale.maximum=0", "/autoscale/maximum"),
    ("network.restrict=maybe", "/network/restrict"),
    ("network.clientNamespaces=hub", "/network/clientNamespaces"),
    ("tls.secret=My Secret", "/tls/secret"),
    ("dashboard=1", "/dashboard"),
    ("idleTimeout=-5", "/idleTimeout"),
    ("tolerations=all", "/tolerations"),
]


@pytest.mark.parametrize(("setting", "named"), REFUSED, ids=[setting for setting, _ in REFUSED])
def test_the_schema_refuses_a_wrong_value(tools: Tools, setting: str, named: str) -> None:
    assert named in tools.refusal(setting)


@pytest.mark.parametrize(
    ("name", "settings", "named"),
    [
        ("beam.time", (), '"beam.time"'),
        ("b" * 53, ("autoscale.enabled=true", "autoscale.minimum=11"), "minimum is 11, above"),
        ("x", ("data.path=/results",), "data.path and results.path"),
        ("x", ("data.path=/results/raw",), "data.path and results.path"),
    ],
)
def test_the_chart_refuses_what_a_schema_cannot_say(
    tools: Tools, name: str, settings: tuple[str, ...], named: str
) -> None:
    assert named in tools.refusal(*settings, name=name)


def test_every_wanted_value_arrives(objects: dict[str, list[Resource]], tools: Tools) -> None:
    specs = pod_specs(objects["everything"])
    assert len(specs) == 1 + 3
    for spec in specs.values():
        [container] = spec["containers"]
        assert container["image"] == "wavedask@sha256:" + "0123456789abcdef" * 4
        assert spec["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]
        assert spec["securityContext"]["fsGroup"] == 2000
        assert spec["securityContext"]["supplementalGroups"] == [3000, 3001]
        assert spec["nodeSelector"] == {"disk": "fast"}
        assert spec["tolerations"] == [{"key": "beamline", "operator": "Exists"}]
    [cluster, scaler] = [
        each
        for each in tools.rendered(*VARIANTS["everything"], "autoscale.maximum=7")
        if each["apiVersion"] == CUSTOM
    ]
    if cluster["kind"] != "DaskCluster":
        cluster, scaler = scaler, cluster
    assert cluster["spec"]["idleTimeout"] == 3600
    assert scaler["spec"] == {"cluster": "wavedask", "minimum": 0, "maximum": 7}


def test_no_pod_has_a_right_that_it_does_not_need(objects: dict[str, list[Resource]]) -> None:
    pods = [spec for name, resources in objects.items() for spec in pod_specs(resources).values()]
    assert len(pods) == 3 + 4 + 3 + 4 + 4 + 1
    for spec in pods:
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & spec.keys()
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["runAsGroup"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for volume in spec["volumes"]:
            assert "hostPath" not in volume
            assert volume.get("emptyDir", {"sizeLimit": "1"})["sizeLimit"]
        for container in (*spec.get("initContainers", []), *spec["containers"]):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["privileged"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            size = container["resources"]
            assert size["requests"] == size["limits"]
            assert size["limits"].keys() == {"cpu", "memory", "ephemeral-storage"}
            mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
            assert mounts["data"]["readOnly"] is True
            assert not mounts["results"].get("readOnly")
            # Every path that a process is told to write to is in the scratch volume.
            written = {each["name"]: each["value"] for each in container["env"]}
            for name in ("HOME", "TMPDIR", "DASK_TEMPORARY_DIRECTORY", "NUMBA_CACHE_DIR"):
                assert Path(written[name]).is_relative_to(mounts["scratch"]["mountPath"])
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]
        for spec in pods
        for volume in spec["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims["data"]["readOnly"] is True


def test_servers_have_probes_and_commands_that_exist(objects: dict[str, list[Resource]]) -> None:
    servers = [
        container
        for resources in objects.values()
        for deployment in of_kind("Deployment", resources)
        for container in deployment["spec"]["template"]["spec"]["containers"]
    ]
    assert servers
    for container in servers:
        # The scripts dask-scheduler and dask-worker are gone; 'command' would skip the entry point.
        assert container["args"][:2] in (["dask", "scheduler"], ["dask", "worker"])
        assert "command" not in container
        named = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["port"] in named


def test_the_network_policies_let_in_who_should_be(objects: dict[str, list[Resource]]) -> None:
    policies = of_kind("NetworkPolicy", objects["cluster"])
    labels = pod_labels(objects["cluster"])
    scheduler = Peer(labels.pop("wavedask-scheduler"))
    workers = [Peer(each) for each in labels.values()]
    assert len(workers) == 2
    client = Peer(pod_labels(objects["client"])["wavedask-client"])
    stranger = Peer({"app": "other"})
    other_cluster = Peer({**workers[0].labels, "dask.org/cluster-name": "other"})
    operator = Peer({"app": "operator"}, "dask-operator")
    comm, web = "tcp-comm", "http-dashboard"

    for source in (*workers, client):
        assert allowed(policies, source, scheduler, comm)
        assert allowed(policies, source, scheduler, web)
    for source in (stranger, other_cluster, Peer(client.labels, "hub")):
        assert not allowed(policies, source, scheduler, comm)
        assert not allowed(policies, source, scheduler, web)
    assert allowed(policies, operator, scheduler, web)
    assert not allowed(policies, operator, scheduler, comm)

    for first, second in itertools.permutations([scheduler, *workers], 2):
        assert allowed(policies, first, second, "tcp-worker" if second is not scheduler else comm)
    for source in (client, stranger, other_cluster, operator):
        assert not allowed(policies, source, workers[0], "tcp-worker")

    with_hub = of_kind("NetworkPolicy", objects["everything"])
    assert allowed(with_hub, Peer(client.labels, "hub"), scheduler, comm)
    assert not allowed(with_hub, Peer({}, "hub"), scheduler, comm)
    assert not allowed(with_hub, Peer(client.labels, "elsewhere"), scheduler, comm)


def test_the_job_s_own_pod_belongs_to_its_cluster(objects: dict[str, list[Resource]]) -> None:
    policies = of_kind("NetworkPolicy", objects["job"])
    labels = pod_labels(objects["job"])
    runner = Peer(labels["wavedask-runner"])
    assert allowed(policies, runner, Peer(labels["wavedask-scheduler"]), "tcp-comm")
    assert not allowed(policies, Peer({}), runner, "tcp-comm")


def test_the_notes_name_the_address_and_warn_of_an_open_cluster(tools: Tools) -> None:
    def notes(*settings: str) -> str:
        words = [word for each in settings for word in ("--set", each)]
        done = tools.helm("install", "beam", CHART, "--dry-run=client", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("NOTES:")[2]

    assert "--cluster tcp://beam-scheduler.default:8786" in notes()
    assert "WARNING" not in notes()
    assert "tls://127.0.0.1:8786" in notes("tls.secret=x")
    assert "logs --follow beam-runner" in notes("mode=job")
    assert "WARNING: network.restrict is false" in notes("network.restrict=false")


@pytest.fixture(scope="module")
def reference(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[xr.Dataset, Path]:
    """Result of one process, and the folder of its compiled kernels, as the image has one."""
    folder, kernels = tmp_path_factory.mktemp("reference"), tmp_path_factory.mktemp("kernels")
    experiment = write(folder, **frames_of(raw))
    done = subprocess.run(
        python_m("run", experiment),
        env={**os.environ, "NUMBA_CACHE_DIR": str(kernels)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return open_store(folder / "results.zarr").compute(), kernels


def frames_of(raw: Path) -> dict[str, Any]:
    """Sections of an experiment file with absolute paths."""
    roles = ("reference", "dark", "flat", "sample")
    sections: dict[str, Any] = {role: {"files": f"{raw}/raw/{role}_*.edf"} for role in roles}
    sections["sample"]["units"] = {"lens_x": "mm"}
    return sections


def certificates(folder: Path) -> None:
    """Write the three files of the chart's secret, by the commands of the documentation."""
    page = (REPOSITORY / "docs" / "deploy" / "kubernetes.md").read_text()
    commands = [line for line in page.splitlines() if line.startswith("openssl ")]
    assert len(commands) == 3
    for command in commands:
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("variant", ["job", "tls job"])
def test_the_pods_of_a_job_run_here_and_give_the_right_bits(
    objects: dict[str, list[Resource]],
    variant: str,
    raw: Path,
    reference: tuple[xr.Dataset, Path],
    tmp_path: Path,
) -> None:
    assert os.geteuid() == 0, "a mount namespace needs root"
    expected, kernels = reference
    results, secret = tmp_path / "results", tmp_path / "secret"
    for folder in (results, secret):
        folder.mkdir()
    certificates(secret)
    write(results, cluster=None, **frames_of(raw))

    port = free_port()
    names = {"wavedask-scheduler:8786": f"127.0.0.1:{port}"}
    pods = {}
    for name, spec in pod_specs(objects[variant]).items():
        scratch = tmp_path / name
        scratch.mkdir()
        folders = {"/scratch": scratch, "/data": raw, "/results": results, "/tls": secret}
        for container in (*spec.get("initContainers", []), *spec["containers"]):
            log = tmp_path / f"{name}-{container['name']}.log"
            pods[f"{name}/{container['name']}"] = Pod(container, names, folders, log)
    scheduler = pods["wavedask-scheduler/scheduler"]
    scheduler.ports["tcp-comm"] = port
    waiting, runner = pods["wavedask-runner/wait"], pods["wavedask-runner/run"]
    workers = [pod for pod in pods.values() if pod.container["name"] == "worker"]
    assert len(workers) == 2

    with cleaned(list(pods.values())):
        for pod in (waiting, scheduler, *workers):  # in the order that suits nobody
            pod.start(DEPLOY / "docker" / "entrypoint.sh", WAVEDASK_KERNELS=str(kernels))
        assert waiting.ended(seconds=120) == 0, waiting.said()
        for pod in (scheduler, *workers):
            pod.until_ready()
        _nothing_can_be_written(workers[0], raw)
        runner.start(DEPLOY / "docker" / "entrypoint.sh", WAVEDASK_KERNELS=str(kernels))
        assert runner.ended(seconds=180) == 0, runner.said()
        _the_operator_can_scale(scheduler)
        _pages(scheduler, shown=variant == "job")
        if variant == "tls job":
            # In a process of its own: Dask leaves the socket open when it is refused.
            code = f"from distributed import Client; Client('tcp://127.0.0.1:{port}', timeout=3)"
            refused = subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert refused.returncode == 1
            assert re.search(r"OSError|CommClosedError|ConnectionResetError", refused.stderr)
        grace = pod_specs(objects[variant])["wavedask-scheduler"]["terminationGracePeriodSeconds"]
        for pod in (*workers, scheduler):
            pod.stop(seconds=grace)

    found = open_store(results / "results.zarr").compute()
    assert_equal(found, expected)
    for pod in workers:
        # They started with the kernels of the image, and compiled none.
        own = pod.folders["/scratch"] / "kernels"
        compiled = {file.relative_to(own) for file in own.rglob("*.nbc")}
        assert compiled
        assert compiled == {file.relative_to(kernels) for file in kernels.rglob("*.nbc")}


def _nothing_can_be_written(pod: Pod, data: Path) -> None:
    """In a container only scratch and results can be written, and no right can be had."""
    package = Path(wavedask.__file__).parent
    for folder in (package, data, Path("/usr")):
        refused = pod.run(["touch", str(folder / "probe")])
        assert refused.returncode != 0, folder
        assert "Read-only file system" in refused.stderr
    for folder in (pod.folders["/scratch"], pod.folders["/results"]):
        assert pod.run(["touch", str(folder / "probe")]).returncode == 0
    assert pod.run(["grep", "-E", r"^CapEff:\s*0+$", "/proc/self/status"]).returncode == 0
    assert pod.run(["mount", "-o", "remount,bind,rw", "/"]).returncode != 0


def _the_operator_can_scale(scheduler: Pod) -> None:
    """The pages that the operator asks before it stops a worker."""

    def asked(path: str, **content: int) -> Any:
        data = json.dumps(content).encode() if content else None
        request = urllib.request.Request(scheduler.url("http-dashboard", path), data=data)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    assert asked("/api/v1/adaptive_target")["workers"] == 0
    assert asked("/api/v1/check_idle")["idle_since"]
    [retired] = asked("/api/v1/retire_workers", n=1).values()
    # The operator deletes the Deployment of this name.
    assert retired["name"].startswith("wavedask-default-worker-")
    assert asked("/api/v1/get_workers")["num_workers"] == 1


def _pages(scheduler: Pod, *, shown: bool) -> None:
    for page in ("/status", "/info/main/workers.html"):
        url = scheduler.url("http-dashboard", page)
        if shown:
            urllib.request.urlopen(url, timeout=30).close()
        else:
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(url, timeout=30)
