"""A strict schema of the Kubernetes fields that `cluster/kuberay` uses: any other field is an error.

Follows the CRDs of KubeRay v1.7 and Kubernetes 1.32; the API server would drop a misspelt field without a word.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
STRING: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
STRINGS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
NAME: Schema = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
QUANTITY: Schema = {"type": "string", "pattern": r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?$"}


def exactly(required: str = "", **properties: Schema) -> Schema:
    """An object with these properties and no other; `required` names some, split by spaces."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def several(item: Schema, least: int = 0) -> Schema:
    """A list."""
    return {"type": "array", "items": item, "minItems": least}


METADATA = exactly("name", name=NAME, namespace=NAME, labels=STRINGS)
RESOURCES = exactly(
    "requests limits",
    **{
        part: {
            "type": "object",
            "propertyNames": {"enum": ["cpu", "memory", "nvidia.com/gpu"]},
            "additionalProperties": QUANTITY,
            "required": ["cpu", "memory"],
        }
        for part in ("requests", "limits")
    },
)
CONTAINER_SECURITY = exactly(
    "runAsNonRoot allowPrivilegeEscalation capabilities seccompProfile",
    runAsNonRoot={"const": True},
    allowPrivilegeEscalation={"const": False},
    capabilities=exactly("drop", drop={"const": ["ALL"]}),
    seccompProfile=exactly("type", type={"const": "RuntimeDefault"}),
)
POD_SECURITY = exactly(
    "runAsNonRoot runAsUser",
    runAsNonRoot={"const": True},
    runAsUser={"type": "integer", "minimum": 1},
    runAsGroup={"type": "integer", "minimum": 1},
    fsGroup=COUNT,
)
REFERENCE = exactly("name key", name=NAME, key=STRING)
VARIABLE = exactly(
    "name", name=STRING, value={"type": "string"}, valueFrom=exactly("secretKeyRef", secretKeyRef=REFERENCE)
)
PROBE = exactly(
    "httpGet",
    httpGet=exactly("path port", path=STRING, port=STRING),
    periodSeconds=COUNT,
    failureThreshold=COUNT,
)
CONTAINER = exactly(
    "name image resources securityContext",
    name=NAME,
    image=STRING,
    imagePullPolicy={"enum": ["IfNotPresent", "Always", "Never"]},
    args=several(STRING),
    ports=several(exactly("name containerPort", name=NAME, containerPort=COUNT)),
    env=several(VARIABLE),
    resources=RESOURCES,
    securityContext=CONTAINER_SECURITY,
    startupProbe=PROBE,
    livenessProbe=PROBE,
    readinessProbe=PROBE,
    volumeMounts=several(exactly("name mountPath", name=NAME, mountPath=STRING, readOnly=FLAG)),
)
VOLUME = exactly(
    "name",
    name=NAME,
    persistentVolumeClaim=exactly("claimName", claimName=NAME),
    configMap=exactly("name", name=NAME),
    emptyDir=exactly("sizeLimit", medium={"const": "Memory"}, sizeLimit=QUANTITY),
)
POD = exactly(
    "securityContext containers",
    securityContext=POD_SECURITY,
    automountServiceAccountToken={"const": False},
    restartPolicy={"enum": ["Never", "OnFailure", "Always"]},
    tolerations=several(exactly("key operator effect", key=STRING, operator=STRING, effect=STRING)),
    containers=several(CONTAINER, 1),
    volumes=several(VOLUME),
)
TEMPLATE = exactly("spec", metadata=exactly(labels=STRINGS), spec=POD)
LABELS = exactly("matchLabels", matchLabels=STRINGS)

RAY_CLUSTER_SPEC = exactly(
    "rayVersion authOptions headGroupSpec workerGroupSpecs",
    rayVersion=STRING,
    authOptions=exactly("mode secretName", mode={"const": "token"}, secretName=NAME),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=exactly(
        "resources securityContext",
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=COUNT,
        resources=RESOURCES,
        securityContext=CONTAINER_SECURITY,
    ),
    headGroupSpec=exactly(
        "rayStartParams template",
        serviceType={"const": "ClusterIP"},
        rayStartParams=STRINGS,
        template=TEMPLATE,
    ),
    workerGroupSpecs=several(
        exactly(
            "groupName minReplicas maxReplicas rayStartParams template",
            groupName=NAME,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            rayStartParams=STRINGS,
            template=TEMPLATE,
        ),
        1,
    ),
)
RAY_JOB_SPEC = exactly(
    "entrypoint rayClusterSpec",
    entrypoint=STRING,
    submissionMode={"const": "K8sJobMode"},
    backoffLimit=COUNT,
    activeDeadlineSeconds=COUNT,
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=COUNT,
    submitterPodTemplate=TEMPLATE,
    rayClusterSpec=RAY_CLUSTER_SPEC,
)
CLAIM_SPEC = exactly(
    "accessModes resources",
    accessModes=several({"enum": ["ReadWriteMany", "ReadWriteOnce"]}, 1),
    storageClassName=NAME,
    resources=exactly("requests", requests=exactly("storage", storage=QUANTITY)),
)
DEPLOYMENT_SPEC = exactly(
    "replicas selector template",
    replicas=COUNT,
    strategy=exactly("type", type={"enum": ["Recreate", "RollingUpdate"]}),
    selector=LABELS,
    template=TEMPLATE,
)
SERVICE_SPEC = exactly(
    "type selector ports",
    type={"const": "ClusterIP"},
    selector=STRINGS,
    ports=several(exactly("name port targetPort", name=NAME, port=COUNT, targetPort=STRING), 1),
)
SELECTOR: Schema = {
    "anyOf": [LABELS, exactly()],
}
POLICY_SPEC = exactly(
    "podSelector policyTypes",
    podSelector=SELECTOR,
    policyTypes={"const": ["Ingress"]},
    ingress=several(
        exactly(
            "from",
            **{"from": several(exactly(podSelector=LABELS, namespaceSelector=SELECTOR), 1)},
            ports=several(exactly("protocol port", protocol={"const": "TCP"}, port=COUNT), 1),
        )
    ),
)


def _kind(version: str, spec: Schema) -> Schema:
    return exactly(
        "apiVersion kind metadata spec",
        apiVersion={"const": version},
        kind=STRING,
        metadata=METADATA,
        spec=spec,
    )


KINDS: dict[str, Schema] = {
    "RayCluster": _kind("ray.io/v1", RAY_CLUSTER_SPEC),
    "RayJob": _kind("ray.io/v1", RAY_JOB_SPEC),
    "PersistentVolumeClaim": _kind("v1", CLAIM_SPEC),
    "Deployment": _kind("apps/v1", DEPLOYMENT_SPEC),
    "Service": _kind("v1", SERVICE_SPEC),
    "NetworkPolicy": _kind("networking.k8s.io/v1", POLICY_SPEC),
    "Namespace": exactly(
        "apiVersion kind metadata", apiVersion={"const": "v1"}, kind=STRING, metadata=METADATA
    ),
    "ConfigMap": exactly(
        "apiVersion kind metadata data",
        apiVersion={"const": "v1"},
        kind=STRING,
        metadata=METADATA,
        data=STRINGS,
    ),
}
