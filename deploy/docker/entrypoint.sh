#!/bin/sh
# Start a command of the image: give it a folder for compiled kernels, with those of the image in it.
# The image may be read-only, and its user may be any: only the folder of NUMBA_CACHE_DIR is written.
set -eu

image=${WAVEDASK_KERNELS:-/opt/wavedask/kernels}
: "${NUMBA_CACHE_DIR:=${TMPDIR:-/tmp}/wavedask-kernels-$(id -u)}"
export NUMBA_CACHE_DIR
# A folder that only this user can write: Numba runs what lies there.
if [ ! -e "$NUMBA_CACHE_DIR" ] && [ -d "$image" ]; then
    draft=$(mktemp -d "${NUMBA_CACHE_DIR}.XXXXXX")
    cp -R "$image/." "$draft"
    # Several processes may start at once: the first one names the folder.
    mv -T "$draft" "$NUMBA_CACHE_DIR" 2>/dev/null || rm -rf "$draft"
fi
exec "$@"
