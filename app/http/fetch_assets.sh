#!/bin/sh
# Fetches the browser bundle of @asyncapi/react-component into a folder: fetch_assets.sh FOLDER. Needs npm and node.
# The one place that pins its version; the checksum is the npm registry's own (`npm view ... dist.integrity`).
set -eu

version=3.2.1
sha512='k5ZqJd6+oxYaQ2o6F3rGWJ1MTIjXdpsUYB3NKQbVqr4yzrN0Ovj5c7eZx8NGd3wfKPhbOrLREtYl9K2OPfnSsA=='

target=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# npm's --pack-destination, not cd: a relative FOLDER stays relative to the caller.
npm pack --silent --pack-destination "$work" "@asyncapi/react-component@$version" >/dev/null
archive=$work/asyncapi-react-component-$version.tgz
found=$(node -p 'require("crypto").createHash("sha512").update(require("fs").readFileSync(process.argv[1])).digest("base64")' "$archive")
if [ "$found" != "$sha512" ]; then
    echo "@asyncapi/react-component@$version has another checksum than the pinned one: $found" >&2
    exit 1
fi

tar -xzf "$archive" -C "$work"
mkdir -p "$target"
cp "$work/package/LICENSE" "$target/LICENSE.txt"
cp "$work/package/browser/standalone/index.js.LICENSE.txt" "$target/bundle.LICENSE.txt"
cp "$work/package/styles/default.min.css" "$target/style.css"
# The bundle comes last and in one step: its presence says that the folder is complete.
cp "$work/package/browser/standalone/index.js" "$target/bundle.js.part"
mv "$target/bundle.js.part" "$target/bundle.js"
