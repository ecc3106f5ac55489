"""What the Dask operator makes of custom resources: reads JSON from stdin, writes JSON to stdout.

Both are lists of resources by name.

Called with the Python of an environment that has dask-kubernetes: the objects come from the
operator's own functions. Everything here runs without a Kubernetes cluster.
"""

import json
import sys
from typing import Any

from dask_kubernetes.operator.controller.controller import (
    build_job_pod_spec,
    build_scheduler_deployment_spec,
    build_scheduler_service_spec,
    build_worker_deployment_spec,
)

NAMESPACE = "default"


def of_cluster(name: str, spec: dict[str, Any], labels: dict[str, str]) -> list[dict[str, Any]]:
    """Scheduler, its Service, and one Deployment per worker."""
    scheduler = spec["scheduler"]
    return [
        build_scheduler_deployment_spec(name, scheduler["spec"], {}, labels),
        build_scheduler_service_spec(name, scheduler["service"], {}, labels),
        *(
            build_worker_deployment_spec(
                worker_group_name=f"{name}-default",
                namespace=NAMESPACE,
                cluster_name=name,
                uuid=f"{number:010x}",
                pod_spec=spec["worker"]["spec"],
                annotations={},
                labels=labels,
            )
            for number in range(spec["worker"]["replicas"])
        ),
    ]


def of_resource(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """Objects of one resource; one that is not the operator's stays as it is."""
    kind, spec = resource["kind"], resource.get("spec", {})
    name, labels = resource["metadata"]["name"], resource["metadata"].get("labels", {})
    if kind == "DaskCluster":
        return of_cluster(name, spec, labels)
    if kind == "DaskJob":
        pod = build_job_pod_spec(name, name, NAMESPACE, spec["job"]["spec"], {}, labels)
        return [*of_cluster(name, spec["cluster"]["spec"], labels), pod]
    return [] if kind == "DaskAutoscaler" else [resource]


if __name__ == "__main__":
    given = json.load(sys.stdin)
    json.dump(
        {name: [new for old in group for new in of_resource(old)] for name, group in given.items()},
        sys.stdout,
    )
