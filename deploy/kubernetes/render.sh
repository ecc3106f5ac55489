#!/usr/bin/env bash
# Write daskcluster.yaml and daskjob.yaml again: the chart with its defaults, for who does not use Helm.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

render() { # FILE RELEASE ARGUMENTS...
    local file=$1 release=$2
    shift 2
    {
        echo "# Written by deploy/kubernetes/render.sh from the chart. Change the chart, or use its values."
        helm template "$release" chart/wavedask "$@" | sed '/^# Source: /d'
    } >"$file"
}

render daskcluster.yaml wavedask --set mode=cluster
render daskjob.yaml wavedask-run --set mode=job
