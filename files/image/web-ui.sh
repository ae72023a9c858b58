#!/bin/sh
# Builds llama-server's web page (tools/ui) from the pinned sources into files/image/web-ui.tar.xz:
#
#     files/image/web-ui.sh LLAMA_CPP BUILD_NUMBER
#
# For maintainers, after image_llama_build moves. The sources hold no built page, and building it takes Node 20.19 or
# newer and 1,060 npm packages, so no workstation does that. package-lock.json pins each package by its sha512. None of
# their install scripts runs. The same sources give the same files.
set -eu
sources=$1
build=$2
target=$(cd "$(dirname "$0")" && pwd)/web-ui.tar.xz

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -R "$sources/tools/ui/." "$scratch"
cd "$scratch"
# SvelteKit would name the version after the time.
sed -i "s/^\tkit: {/\tkit: { version: { name: 'b$build' },/" svelte.config.js
npm ci --ignore-scripts --no-audit --no-fund
LLAMA_UI_OUT_DIR=$scratch/dist LLAMA_UI_VERSION=b$build LLAMA_BUILD_NUMBER=$build npm run build

# The licences of what the page is made of: each text once, under the packages that have it.
find node_modules -type f -iname 'licen[cs]e*' -exec sha256sum {} + | sort | awk '
    { if ($1 != last && last) show(); last = $1; file = $2; names = names "\n" $2 }
    function show(    line) { print names "\n"; while ((getline line < file) > 0) print line; close(file); names = "" }
    END { show() }' >licenses.txt
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -cJf "$target" dist licenses.txt
