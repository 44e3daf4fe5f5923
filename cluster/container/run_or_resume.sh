#!/bin/sh
# Run a study, or go on with it where an earlier attempt began it: run_or_resume.sh FILE NAME
# NAME is the study's; the file's `storage` is the default, `runs`, below $IPGL_STORAGE.
set -eu
FILE="$1" NAME="$2"
cd "${IPGL_STORAGE:-/storage}"
if [ -e "runs/$NAME/study.json" ]; then
  exec ipgl study resume "$NAME"
fi
exec ipgl study run "$FILE"
