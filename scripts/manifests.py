"""Holds manifests against the definitions of their resources, unknown fields included, which Kubernetes just drops.

    kubectl get crd rayjobs.ray.io rayclusters.ray.io -o yaml >crds.yaml
    python scripts/manifests.py launch/rayjob.yaml launch/raycluster.yaml --crd crds.yaml

Definitions may as well be the files `ray.io_*.yaml` of a KubeRay release. Each fault is a line; exit code 1 if there is
any. Rules in CEL (`x-kubernetes-validations`) and defaults are for the API server alone.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import yaml  # type: ignore[import-untyped, unused-ignore]

Schema = Mapping[str, Any]
OPEN = ("additionalProperties", "x-kubernetes-preserve-unknown-fields")
"""What lets an object have fields that its schema does not name."""


def schemas_in(text: str) -> dict[tuple[str, str], Schema]:
    """Return the schemas of all definitions in a text of YAML, by apiVersion and kind."""
    schemas = {}
    for one in _documents(text):
        for definition in one.get("items", [one]):
            spec = definition["spec"]
            for version in spec["versions"]:
                name = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                schemas[name] = _with_metadata(strict(version["schema"]["openAPIV3Schema"]))
    return schemas


def _with_metadata(schema: Any) -> Any:
    """Return the schema of a whole resource, whose `metadata` the API server knows without being told."""
    return {**schema, "properties": {**schema.get("properties", {}), "metadata": {"type": "object"}}}


def strict(schema: Any) -> Any:
    """Return a schema that takes no field which it does not name, and null where that is said to be a value.

    An object of which no field is named is no map of anything: unless it says so (`OPEN`), all its fields are dropped.
    """
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {key: strict(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        made["properties"] = {name: strict(one) for name, one in schema["properties"].items()}
    if ("properties" in schema or schema.get("type") == "object") and not any(key in schema for key in OPEN):
        made["additionalProperties"] = False
    if schema.get("nullable") is True and "type" in schema:
        made["type"] = [schema["type"], "null"]
    return made


def faults_in(text: str, schemas: Mapping[tuple[str, str], Schema]) -> Iterator[str]:
    """Yield what is wrong with the manifests in a text of YAML, each with its place."""
    for manifest in _documents(text):
        name = str(manifest.get("apiVersion")), str(manifest.get("kind"))
        if name not in schemas:
            yield f"{' '.join(name)}: no definition is given; given are {', '.join(map(' '.join, schemas)) or 'none'}"
            continue
        checked = jsonschema.Draft7Validator(schemas[name])
        for error in sorted(checked.iter_errors(manifest), key=lambda error: error.json_path):
            yield f"{name[1]} {error.json_path}: {error.message[:300]}"


def _documents(text: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(text) if one is not None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each fault of each file, and how many there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--crd", action="append", required=True, type=Path)
    options = parser.parse_args(arguments)
    schemas = {name: one for path in options.crd for name, one in schemas_in(path.read_text("utf-8")).items()}
    num_faults = 0
    for path in options.manifests:
        faults = list(faults_in(path.read_text("utf-8"), schemas))
        num_faults += len(faults)
        print("\n".join([*(f"{path}: {fault}" for fault in faults), f"{path}: {len(faults)} faults"]))
    return 1 if num_faults else 0


if __name__ == "__main__":
    sys.exit(main())
