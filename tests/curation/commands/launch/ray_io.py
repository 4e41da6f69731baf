"""The fields of KubeRay's resources that our manifests use, with their types, as a definition (`ray.io/v1`).

Read off KubeRay's own definitions, whose texts are not kept here: what they name besides is left out, so that a
manifest which comes to use a field more must be held against them once again (`scripts/manifests.py`).
"""

from typing import Any

TEXT, WHOLE, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
QUANTITIES = {"type": "object", "additionalProperties": {"type": "string", "pattern": r"^[0-9]+(Gi)?$"}}


def fields(*required: str, **named: Any) -> dict[str, Any]:
    """Return an object of these fields."""
    return {"type": "object", "properties": named, "required": list(required)}


def each(items: Any) -> dict[str, Any]:
    """Return an array."""
    return {"type": "array", "items": items}


VALUE_FROM = fields(secretKeyRef=fields("key", name=TEXT, key=TEXT))
CONTAINER = fields(
    "name",
    name=TEXT,
    image=TEXT,
    resources=fields(requests=QUANTITIES, limits=QUANTITIES),
    env=each(fields("name", name=TEXT, value=TEXT)),
    envFrom=each(fields(secretRef=fields(name=TEXT, optional=FLAG))),
    volumeMounts=each(fields("mountPath", "name", name=TEXT, mountPath=TEXT, readOnly=FLAG)),
    ports=each(fields("containerPort", containerPort=WHOLE, name={**TEXT, "maxLength": 15})),
)
CLAIM = fields("claimName", claimName=TEXT, readOnly=FLAG)
POD = fields(
    "containers",
    containers=each(CONTAINER),
    volumes=each(fields("name", name=TEXT, persistentVolumeClaim=CLAIM)),
    nodeSelector=TEXTS,
    tolerations=each(fields(key=TEXT, operator=TEXT, effect=TEXT)),
)
TEMPLATE = fields(metadata=fields(labels=TEXTS), spec=POD)
CLUSTER = fields(
    "headGroupSpec",
    rayVersion=TEXT,
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=fields(
        idleTimeoutSeconds=WHOLE, upscalingMode={**TEXT, "enum": ["Default", "Aggressive", "Conservative"]}
    ),
    authOptions=fields(mode={**TEXT, "enum": ["disabled", "token"]}),
    gcsFaultToleranceOptions=fields("redisAddress", redisAddress=TEXT, redisPassword=fields(valueFrom=VALUE_FROM)),
    headGroupSpec=fields("template", rayStartParams=TEXTS, template=TEMPLATE),
    workerGroupSpecs=each(
        fields(
            "groupName",
            "maxReplicas",
            "minReplicas",
            "template",
            groupName=TEXT,
            replicas=WHOLE,
            minReplicas=WHOLE,
            maxReplicas=WHOLE,
            rayStartParams=TEXTS,
            template=TEMPLATE,
        )
    ),
)
JOB = fields(
    entrypoint=TEXT,
    submissionMode=TEXT,
    backoffLimit=WHOLE,
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=WHOLE,
    rayClusterSpec=CLUSTER,
)


def definition(kind: str, spec: Any) -> dict[str, Any]:
    """Return the definition of a resource."""
    whole = fields(apiVersion=TEXT, kind=TEXT, metadata={"type": "object"}, spec=spec)
    version = {"name": "v1", "schema": {"openAPIV3Schema": whole}}
    return {"spec": {"group": "ray.io", "names": {"kind": kind}, "versions": [version]}}
