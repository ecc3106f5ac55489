#!/usr/bin/env bash
# Try the chart on a real Kubernetes cluster: whatever kubectl points to, for example kind or minikube.
#
#   deploy/kubernetes/try.sh [IMAGE:TAG]             by default wavedask:0.1.0
#
# Needs kubectl, helm, the Dask operator, and an image that the nodes can get ('kind load docker-image',
# 'minikube image load', or a registry). Makes a namespace of its own and deletes it at the end, also after
# a failure. Every wait has a limit. Environment:
#   NAMESPACE   name of the namespace, by default wavedask-try
#   ACCESS      access mode of the volumes, by default ReadWriteOnce, which is enough on one node
#   KEEP        anything: the namespace stays, to look at it
set -euo pipefail
exec </dev/null

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
image=${1:-wavedask:0.1.0}
namespace=${NAMESPACE:-wavedask-try}
access=${ACCESS:-ReadWriteOnce}
repository=${image%:*} tag=${image##*:}
limit=300

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
kube() { kubectl --namespace "$namespace" --request-timeout=30s "$@"; }

fail() { # MESSAGE: say what Kubernetes says
    echo "FAILED: $*" >&2
    kube get pods --output wide >&2 || true
    kube get events --sort-by=.lastTimestamp >&2 | tail -n 20 || true
    exit 1
}

tidy() {
    [[ -n ${KEEP:-} ]] || kubectl delete namespace "$namespace" --ignore-not-found --timeout="${limit}s"
}

until_true() { # WHAT COMMAND...: wait for a command to succeed, at most $limit seconds
    local what=$1 end=$((SECONDS + limit))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || fail "$what: not within $limit s"
        sleep 2
    done
    say "$what"
}

small=(--set "image.repository=$repository" --set "image.tag=$tag"
    --set scheduler.cpu=250m --set scheduler.memory=1Gi --set scheduler.scratch=1Gi
    --set workers.cpu=500m --set workers.memory=1Gi --set workers.scratch=1Gi
    --set job.cpu=250m --set job.memory=1Gi --set job.scratch=1Gi
    --set user.fsGroup=1000)

for program in kubectl helm; do
    command -v "$program" >/dev/null || { echo "$program is missing" >&2; exit 1; }
done
[[ $image == *:* ]] || { echo "$image has no tag: give IMAGE:TAG" >&2; exit 1; }
kubectl get crd daskclusters.kubernetes.dask.org >/dev/null || {
    echo "The Dask operator is not installed, or there is no cluster: see the message above." >&2
    exit 1
}

kubectl create namespace "$namespace"  # fails if it exists: only what was made here is deleted
trap tidy EXIT
trap 'exit 1' INT TERM
# The strictest of Kubernetes' own standards: a pod that breaks it is refused.
kubectl label namespace "$namespace" pod-security.kubernetes.io/enforce=restricted
sed "s/ReadWriteMany/$access/; s/100Gi/1Gi/" "$here/volumes.yaml" | kube apply --filename -
say "namespace and volumes made"

helm --namespace "$namespace" install try "$here/chart/wavedask" "${small[@]}"
# Deployments, not status.phase of the DaskCluster: the operator may set that back to Pending.
until_true "the operator has made the scheduler" kube get deployment/try-scheduler
kube rollout status deployment/try-scheduler --timeout="${limit}s" || fail "the scheduler does not start"
two_workers() {
    [[ $(kube get pods --selector dask.org/cluster-name=try,dask.org/component=worker \
        --output 'jsonpath={.items[*].status.containerStatuses[*].ready}') == "true true" ]]
}
until_true "two workers are ready" two_workers

# fsGroup: the new volume belongs to root.
sed "s#image: wavedask:0.1.0#image: $image#; s#cpu: \"1\", memory: 4Gi#cpu: 250m, memory: 1Gi#
     s#^    runAsGroup: 1000#&\n    fsGroup: 1000#" "$here/client.yaml" | kube apply --filename -
kube wait --for=condition=Ready pod/wavedask-client --timeout="${limit}s" || fail "the client does not start"
inside() { timeout "$limit" kubectl --namespace "$namespace" exec wavedask-client -- "$@"; }
inside wavedask demo --side 256 --output /results/demo --cluster tcp://try-scheduler:8786 ||
    fail "the demonstration on the cluster"
say "demonstration run on the cluster"

kube label pod/wavedask-client wavedask/client- >/dev/null
sleep 5
if inside python -c 'from distributed import Client; Client("tcp://try-scheduler:8786", timeout=5)' \
    >/dev/null 2>&1; then
    say "WARNING: a pod without the label reached the scheduler: the network plugin enforces no policies"
else
    say "a pod without the label does not reach the scheduler"
fi

helm --namespace "$namespace" install try-job "$here/chart/wavedask" "${small[@]}" \
    --set mode=job --set job.experiment=/results/demo/experiment.yaml
finished() { [[ $(kube get daskjob/try-job --output 'jsonpath={.status.jobStatus}') =~ Successful|Failed ]]; }
until_true "the job has ended" finished
kube logs try-job-runner || true
[[ $(kube get daskjob/try-job --output 'jsonpath={.status.jobStatus}') == Successful ]] || fail "the job"
say "all of it works"
