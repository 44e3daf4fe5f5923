#!/bin/sh
# Start MLflow with secrets from files; SECRETS and MLFLOW_BACKEND_STORE_URI may name others.
set -eu
SECRETS="${SECRETS:-/run/secrets}"
MLFLOW_AUTH_ADMIN_PASSWORD="$(cat "$SECRETS/admin_password")"
MLFLOW_FLASK_SERVER_SECRET_KEY="$(cat "$SECRETS/flask_secret_key")"
if [ -z "${MLFLOW_BACKEND_STORE_URI:-}" ]; then
  MLFLOW_BACKEND_STORE_URI="postgresql+psycopg2://mlflow:$(cat "$SECRETS/database_password")@database:5432/mlflow"
fi
export MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_BACKEND_STORE_URI
exec mlflow server --host "${HOST:-0.0.0.0}" --port "${PORT:-5000}" --workers 2 --app-name basic-auth
