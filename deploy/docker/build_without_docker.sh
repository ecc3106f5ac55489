#!/usr/bin/env bash
# Build the image of the Dockerfile where no Docker engine is, and run the demonstration in it.
#
#   deploy/docker/build_without_docker.sh [TAG]      TAG: by default localhost/wavedask:latest
#
# Needs root and Debian's packages buildah, crun and mmdebstrap. No server is started. The base is
# Debian 12 with its own Python 3.11, made here by mmdebstrap; all other steps are the Dockerfile's.
# Environment:
#   BASE       image to build on, instead of the one made here (needs a container registry)
#   STORAGE    folder of images and layers, by default /var/lib/containers/storage
#   CA_BUNDLE  certificates that the build trusts, by default those of this machine
#   ARCHIVE    file to write the image to, for 'docker load' or 'ctr images import'
set -euo pipefail
exec </dev/null

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tag=${1:-localhost/wavedask:latest}
storage=${STORAGE:-/var/lib/containers/storage}
bundle=${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}
started=$SECONDS
work=$(mktemp -d)
container=
trap 'stop' EXIT
trap 'exit 1' INT TERM

stop() {
    [[ -z $container ]] || tool rm "$container" >"$work/log" 2>&1 || cat "$work/log" >&2
    rm -rf "$work"
}

say() { printf '%4d s  %s\n' $((SECONDS - started)) "$*"; }

tool() { # COMMAND...: buildah on our storage, without a runtime daemon, cgroups or network of its own
    buildah --root "$storage" --runroot "$work/run" --storage-driver "${DRIVER:-overlay}" "$@"
}

for program in buildah crun mmdebstrap; do
    if ! command -v "$program" >/dev/null; then
        echo "$program is missing: apt-get install --no-install-recommends buildah crun mmdebstrap" >&2
        exit 1
    fi
done
if ((EUID != 0)); then
    echo "This script makes a root file system: run it as root." >&2
    exit 1
fi

base=${BASE:-localhost/wavedask-base:bookworm}
if [[ -z ${BASE:-} ]]; then
    # What the official image python:3.11-slim has in addition to Debian: Python, venv, certificates.
    mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-venv \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' bookworm "$work/base.tar"
    container=$(tool from scratch)
    tool add --quiet "$container" "$work/base.tar" / >/dev/null
    tool config --cmd /bin/sh --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        "$container"
    tool commit --quiet --rm "$container" "$base" >/dev/null
    container=
    rm "$work/base.tar"
    say "base made: Debian 12 with Python 3.11"
fi

# --format docker: the OCI format has no HEALTHCHECK. --isolation chroot: no right of root is needed
# that a container or a CI machine may lack, and the network is this machine's.
tool build --quiet --layers=false --format docker --isolation chroot --network host \
    --ignorefile "$root/.dockerignore" --volume "$bundle:/run/ca-bundle.crt:ro" \
    --build-arg BASE="$base" --build-arg CA_BUNDLE=/run/ca-bundle.crt \
    --build-arg VERSION="$(sed -nE 's/^version = "(.*)"$/\1/p' "$root/pyproject.toml")" \
    --build-arg REVISION="$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)" \
    --file "$root/deploy/docker/Dockerfile" --tag "$tag" "$root" >/dev/null
say "image built: $tag"

container=$(tool from "$tag")
inside() { # COMMAND...: run in the image as its user, through its entry point
    tool run --isolation chroot --network host "$container" -- \
        tini -s -g -- wavedask-entrypoint "$@"
}
inside id
inside wavedask demo --side 256 --output /home/wavedask/demo
say "demonstration run in the image"

if [[ -n ${ARCHIVE:-} ]]; then
    tool push --quiet "$tag" "docker-archive:$ARCHIVE:$tag"
    say "image written: $ARCHIVE"
fi
