"""Manifests are held against the definitions of their resources: what Kubernetes would refuse, and what it drops."""

import importlib
import json
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]

from curation.commands.launch.stage import files_of
from tests.curation.commands.launch.ray_io import CLUSTER, JOB, definition
from tests.curation.commands.launch.test_launch import EVERYTHING

manifests = importlib.import_module("scripts.manifests")
CRDS = yaml.safe_dump({"items": [definition("RayJob", JOB), definition("RayCluster", CLUSTER)]})
SCHEMAS = manifests.schemas_in(CRDS)
FILES = files_of("kuberay", EVERYTHING)


@pytest.mark.parametrize(
    ("written", "instead", "said"),
    [
        ("maxReplicas", "maxReplica", "'maxReplicas' is a required property"),
        ("secretRef:", "secretReff:", "'secretReff' was unexpected"),
        ("num-cpus: '0'", "num-cpus: 0", "0 is not of type 'string'"),
        ("mode: token", "mode: tokens", "'tokens' is not one of"),
        ("kind: RayJob", "kind: RayJobs", "ray.io/v1 RayJobs: no definition is given"),
    ],
)
def test_a_field_that_nobody_knows_is_a_fault_like_one_that_is_missing_or_of_another_type(
    written: str, instead: str, said: str
) -> None:
    text = FILES["rayjob.yaml"]
    assert list(manifests.faults_in(text, SCHEMAS)) == [] and written in text
    assert any(said in fault for fault in manifests.faults_in(text.replace(written, instead), SCHEMAS))


def test_the_script_names_each_fault_with_its_file_and_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "crds.yaml").write_text(CRDS)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    call = [*(str(tmp_path / name) for name in FILES), "--crd", str(tmp_path / "crds.yaml")]
    assert manifests.main(call) == 0
    (tmp_path / "raycluster.yaml").write_text(FILES["raycluster.yaml"].replace("rayVersion", "rayversion"))
    assert manifests.main(call) == 1
    out = capsys.readouterr().out
    assert "raycluster.yaml: RayCluster $.spec: Additional properties" in out and "rayjob.yaml: 0 faults" in out


def test_a_schema_that_lets_fields_be_or_values_be_null_is_taken_at_its_word() -> None:
    anything = {"type": "object", "properties": {"a": {"type": "string", "nullable": True}}}
    schemas = {("g/v1", "K"): manifests.strict({"properties": {"apiVersion": {}, "kind": {}, "spec": anything}})}
    kept = manifests.strict({**anything, "x-kubernetes-preserve-unknown-fields": True})
    assert "additionalProperties" not in kept and kept["properties"]["a"]["type"] == ["string", "null"]
    for spec, num in (({"a": None}, 0), ({"b": 1}, 1), ({"a": 1}, 1)):
        text = json.dumps({"apiVersion": "g/v1", "kind": "K", "spec": spec})
        assert len(list(manifests.faults_in(text, schemas))) == num


def test_an_object_of_which_no_field_is_named_takes_none_unless_it_says_so() -> None:
    free = {"type": "object", "additionalProperties": {"type": "string"}}
    kept = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    spec = {"type": "object", "properties": {"labels": free, "kept": kept, "bare": {"type": "object"}}}
    schemas = manifests.schemas_in(yaml.safe_dump(definition("K", spec)))
    ((version, kind),) = schemas
    for fields, num in (({"labels": {"a": "b"}, "kept": {"a": 1}, "bare": {}}, 0), ({"bare": {"a": "b"}}, 1)):
        manifest = {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "labels": {}}, "spec": fields}
        assert len(list(manifests.faults_in(json.dumps(manifest), schemas))) == num
