#!/bin/sh
# Make the three secrets of compose.yaml, once; those that exist stay.
set -eu
cd "$(dirname "$0")"
FOLDER="${1:-secrets}"
mkdir -p "$FOLDER"
# Compose mounts the files as they are, and the container's user must read them: the folder keeps others out.
chmod 700 "$FOLDER"
for name in database_password admin_password flask_secret_key; do
  if [ ! -s "$FOLDER/$name" ]; then
    # Hexadecimal, so that it may stand in a database address.
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$FOLDER/$name"
    chmod 644 "$FOLDER/$name"
  fi
done
echo "MLflow's user is admin, its password is in $FOLDER/admin_password"
