#!/usr/bin/env bash
# Write the two lock files of the image again, with the newest versions that fit together.
# Needs uv (pip install uv). A package that is already locked keeps its version, unless you name it:
#   deploy/docker/lock.sh --upgrade-package dask --upgrade-package distributed
#   deploy/docker/lock.sh --upgrade
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

lock() { # OUTPUT ARGUMENTS...
    local output=$1
    shift
    # The hashes are those of all files of a version: the lock holds for amd64 and arm64.
    # --no-emit-index-url: the lock does not say where you get your packages from.
    uv pip compile --quiet --python-version 3.11 --python-platform linux \
        --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
        --custom-compile-command deploy/docker/lock.sh --output-file "$output" "$@"
}

lock deploy/docker/requirements.lock pyproject.toml deploy/docker/requirements.in \
    --extra euxfel --extra gateway --extra kubernetes --extra report --extra s3 --extra slurm \
    --extra tiff "$@"
lock deploy/docker/build.lock deploy/docker/build.in "$@"
