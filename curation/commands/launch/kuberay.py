"""Manifests for KubeRay (`ray.io/v1`): a RayJob that makes its own cluster, and a RayCluster for jobs of one's own."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from curation.commands.launch.job import FleetJob

NAME = "facecaptionhq"
HEAD_GIB = 8
SPOT = "facecaptionhq.io/spot"
"""Taint of machines that may vanish; name in the manifest what your cluster calls them."""
CREDENTIALS = "facecaptionhq-store"
"""Secret whose keys become the environment: credentials of the object store."""
WEIGHTS = "/models"
"""Where the volume with the weights is mounted."""


def manifests(job: FleetJob) -> dict[str, str]:
    """Return the manifests by file name."""
    import yaml  # type: ignore[import-untyped, unused-ignore]

    whole = {
        "rayjob.yaml": _resource("RayJob", _job_spec(job)),
        "raycluster.yaml": _resource("RayCluster", _cluster_spec(job)),
    }
    return {name: yaml.safe_dump(values, sort_keys=False, width=120) for name, values in whole.items()}


def unmounted(job: FleetJob) -> tuple[str, ...]:
    """Return the paths of a job that no volume of the manifests holds, so that no pod sees what lies there."""
    named = (job.source, job.target, *([job.recipe] if Path(job.recipe).is_file() else []))
    return tuple(place for place in named if "://" not in place)


def _resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": {"name": NAME}, "spec": spec}


def _job_spec(job: FleetJob) -> dict[str, Any]:
    return {
        "entrypoint": job.line("--ray-address", "auto", "--workers", str(job.num_workers), "--log-json", "-"),
        "submissionMode": "K8sJobMode",
        "backoffLimit": 5,  # each attempt finishes what is left
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 3600,
        "rayClusterSpec": _cluster_spec(job),
    }


def _cluster_spec(job: FleetJob) -> dict[str, Any]:
    """The head does no shard's work, and stays; workers come and go with the shards that wait."""
    head = _container("ray-head", job, cpus=2, gib=HEAD_GIB)
    head["ports"] = [
        {"containerPort": port, "name": name}
        for port, name in ((6379, "gcs"), (8265, "dashboard"), (10001, "client"), (8080, "metrics"))
    ]
    spec: dict[str, Any] = {
        "rayVersion": version("ray"),
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"idleTimeoutSeconds": 300, "upscalingMode": "Default"},
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0", "metrics-export-port": "8080"},
            "template": _pod(head, on_spot=False),
        },
        "workerGroupSpecs": [_group(job)],
    }
    if job.redis is not None:
        password = {"valueFrom": {"secretKeyRef": {"name": "facecaptionhq-redis", "key": "password"}}}
        spec["gcsFaultToleranceOptions"] = {"redisAddress": job.redis, "redisPassword": password}
    return spec


def _group(job: FleetJob) -> dict[str, Any]:
    cpus = min(job.num_node_cpus, job.num_workers)
    worker = _container("ray-worker", job, cpus=cpus, gib=job.node_gib, gpus=job.num_node_gpus)
    return {
        "groupName": "gpu" if job.num_gpus else "cpu",
        "replicas": 1,
        "minReplicas": 0,
        "maxReplicas": job.num_nodes,
        "rayStartParams": {"metrics-export-port": "8080"},
        "template": _pod(worker, on_spot=job.on_spot, with_gpus=bool(job.num_gpus)),
    }


def _container(name: str, job: FleetJob, *, cpus: int, gib: int, gpus: int = 0) -> dict[str, Any]:
    asked = {"cpu": str(cpus), "memory": f"{gib}Gi", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    return {
        "name": name,
        "image": job.image,
        "resources": {"requests": asked, "limits": dict(asked)},
        "env": [{"name": "FACECAPTIONHQ_MODELS", "value": WEIGHTS}],
        "envFrom": [{"secretRef": {"name": CREDENTIALS, "optional": True}}],
        "volumeMounts": [{"name": "models", "mountPath": WEIGHTS, "readOnly": True}],
    }


def _pod(container: dict[str, Any], *, on_spot: bool, with_gpus: bool = False) -> dict[str, Any]:
    tolerations = [{"key": SPOT, "operator": "Exists", "effect": "NoSchedule"}] if on_spot else []
    tolerations += [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}] if with_gpus else []
    claim = {"claimName": "facecaptionhq-models", "readOnly": True}
    spec: dict[str, Any] = {
        "containers": [container],
        "volumes": [{"name": "models", "persistentVolumeClaim": claim}],
        **({"nodeSelector": {SPOT: "true"}} if on_spot else {}),
        **({"tolerations": tolerations} if tolerations else {}),
    }
    return {"metadata": {"labels": {"app": NAME}}, "spec": spec}
