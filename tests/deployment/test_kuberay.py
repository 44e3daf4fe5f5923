"""The Kubernetes files hold known fields only, agree with one another, and keep no secret."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import jsonschema
import pytest
import ray
import yaml
from kuberay_schema import KINDS, Schema
from narrowing import of_kind

import ipgl

_T = TypeVar("_T")

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "cluster" / "kuberay"
FILES = sorted(path for path in KUBERAY.rglob("*.yaml") if path.name != "kustomization.yaml")
README = (ROOT / "cluster" / "README.md").read_text()


def _documents(file: Path) -> list[Schema]:
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


ALL = [document for file in FILES for document in _documents(file)]


def _one(kind: str, name: str) -> Schema:
    (found,) = [d for d in ALL if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


def _values(node: object, key: str, kind: type[_T]) -> Iterator[_T]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield of_kind(value, kind)
            yield from _values(value, key, kind)
    elif isinstance(node, list):
        for value in node:
            yield from _values(value, key, kind)


@pytest.mark.parametrize("document", ALL, ids=[f"{d['kind']}-{d['metadata']['name']}" for d in ALL])
def test_fields_are_known(document: Schema) -> None:
    jsonschema.validate(document, KINDS[document["kind"]])


def test_schema_refuses_a_misspelt_field_and_a_root_user() -> None:
    misspelt = copy.deepcopy(_one("RayCluster", "ipgl"))
    misspelt["spec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        jsonschema.validate(misspelt, KINDS["RayCluster"])
    root = copy.deepcopy(_one("RayCluster", "ipgl"))
    root["spec"]["headGroupSpec"]["template"]["spec"]["securityContext"]["runAsUser"] = 0
    with pytest.raises(jsonschema.ValidationError, match="less than the minimum"):
        jsonschema.validate(root, KINDS["RayCluster"])


def test_the_job_has_the_standing_cluster_as_its_own() -> None:
    job = _one("RayJob", "ipgl-quickstart")["spec"]
    assert job["rayClusterSpec"] == _one("RayCluster", "ipgl")["spec"]
    script, file, name = job["entrypoint"].split()
    dockerfile = (ROOT / "cluster" / "container" / "Dockerfile").read_text()
    assert f"COPY cluster/container/{Path(script).name} {Path(script).parent}/" in dockerfile
    assert f"COPY studies {Path(file).parent}" in dockerfile
    study = yaml.safe_load((ROOT / "studies" / Path(file).name).read_text())
    assert (study["name"], study.get("storage", "runs")) == (name, "runs")


def test_versions_are_those_that_are_installed() -> None:
    assert _one("RayCluster", "ipgl")["spec"]["rayVersion"] == ray.__version__
    images = set(_values(ALL, "image", str))
    assert images == {f"ipgl:{ipgl.__version__}-cuda", f"ipgl-mlflow:{ipgl.__version__}"}


def test_references_lead_somewhere() -> None:
    claims = {d["metadata"]["name"] for d in ALL if d["kind"] == "PersistentVolumeClaim"}
    assert set(_values(ALL, "claimName", str)) == claims == {"ipgl-storage", "ipgl-mlflow"}
    assert {value["name"] for value in _values(ALL, "configMap", dict)} == {"ipgl-mlflow"}
    assert _one("ConfigMap", "ipgl-mlflow")["data"].keys() == {"basic_auth.ini"}
    # Secrets are made by hand, so the README has to say how.
    keys = {(value["name"], value["key"]) for value in _values(ALL, "secretKeyRef", dict)}
    keys |= {(name, "auth_token") for name in _values(ALL, "secretName", str)}
    assert keys == {
        ("ipgl-ray-token", "auth_token"),
        ("ipgl-mlflow", "admin-password"),
        ("ipgl-mlflow", "flask-secret-key"),
    }
    for name, key in keys:
        assert re.search(rf"create secret generic {name}\b[^`]*--from-(file|literal)={key}=", README), (
            name,
            key,
        )


def test_no_secret_is_written_down() -> None:
    assert "Secret" not in {d["kind"] for d in ALL}
    for variable in (v for variables in _values(ALL, "env", list) for v in variables):
        if re.search("PASSWORD|TOKEN|SECRET", variable["name"]):
            assert "value" not in variable, variable["name"]


def test_mlflow_asks_for_a_password_is_probed_and_is_what_the_service_finds() -> None:
    pod = _one("Deployment", "ipgl-mlflow")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert "--app-name=basic-auth" in container["args"]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
    service = _one("Service", "ipgl-mlflow")["spec"]
    assert service["selector"].items() <= pod["metadata"]["labels"].items()
    assert service["ports"][0]["targetPort"] in {port["name"] for port in container["ports"]}
    # MLflow refuses requests that name a host it was not told of.
    (hosts,) = [arg for arg in container["args"] if arg.startswith("--allowed-hosts=")]
    assert "ipgl-mlflow:5000" in hosts
    assert "*" not in hosts


def test_mounts_name_volumes_of_their_pod() -> None:
    pods = [pod["spec"] for pod in _values(ALL, "template", dict)]
    assert len(pods) == 3 + 3 + 1
    for pod in pods:
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_gpu_group_grows_from_nothing_and_asks_for_gpus() -> None:
    spec = _one("RayCluster", "ipgl")["spec"]
    (group,) = [g for g in spec["workerGroupSpecs"] if g["groupName"] == "gpu"]
    assert spec["enableInTreeAutoscaling"] is True
    assert (group["minReplicas"], group["maxReplicas"]) == (0, 16)
    resources = group["template"]["spec"]["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == "1"
    assert _one("PersistentVolumeClaim", "ipgl-storage")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_all_is_denied_but_what_policies_name() -> None:
    deny = _one("NetworkPolicy", "deny-ingress")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress"]}
    rules = _one("NetworkPolicy", "ray-dashboard")["spec"]["ingress"]
    submitter = _one("RayJob", "ipgl-quickstart")["spec"]["submitterPodTemplate"]["metadata"]["labels"]
    assert rules[0]["from"][0]["podSelector"]["matchLabels"].items() <= submitter.items()
    assert all(
        "from" in rule for d in ALL if d["kind"] == "NetworkPolicy" for rule in d["spec"].get("ingress", [])
    )


@pytest.mark.parametrize("name", ["cluster", "job"])
def test_kustomization_lists_files_that_exist_and_pins_images(name: str) -> None:
    settings = yaml.safe_load((KUBERAY / name / "kustomization.yaml").read_text())
    assert set(settings) == {"apiVersion", "kind", "namespace", "resources", "images"}
    assert all((KUBERAY / name / path).exists() for path in settings["resources"])
    named = {f"{image['name']}:{image['newTag']}" for image in settings["images"]}
    assert named == set(_values(ALL, "image", str))
    base = yaml.safe_load((KUBERAY / "base" / "kustomization.yaml").read_text())
    assert set(base["resources"]) == {p.name for p in (KUBERAY / "base").iterdir()} - {"kustomization.yaml"}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, whose kustomize builds offline")
@pytest.mark.parametrize(("name", "images"), [("cluster", 4), ("job", 5)])
def test_kustomize_builds_and_reaches_every_image(name: str, images: int) -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", str(KUBERAY / name)], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    documents = list(yaml.safe_load_all(built))
    found = list(_values(documents, "image", str))
    assert len(found) == images
    assert all(image.startswith("registry.example.com/ipgl") for image in found)
    assert {d["metadata"].get("namespace", "ipgl") for d in documents} == {"ipgl"}
    for document in documents:
        jsonschema.validate(document, KINDS[document["kind"]])
