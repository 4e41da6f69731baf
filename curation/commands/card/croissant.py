"""A card for machines: Croissant, the form of MLCommons for data sets, with its fields of responsible AI.

Source: Croissant format specification 1.1 and Croissant RAI 1.0 (docs.mlcommons.org/croissant).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from curation.commands.card.collection import whence
from curation.commands.card.numbers import Values
from curation.commands.card.origin import Origin
from curation.commands.card.statements import Statements
from curation.commands.card.wording import BIASES, FORBIDDEN, LIMITS_OF_USE, PERSONAL, REMOVAL, SUMMARY, pictures
from curation.storage.publish import FileRecord

CONFORMS_TO = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
OWN_TERMS = ("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileProperty",
             "fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
             "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
             "separator", "source", "subField", "transform")  # fmt: skip
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{term: f"cr:{term}" for term in OWN_TERMS},
}
KINDS = {".parquet": "application/x-parquet", ".tar": "application/x-tar"}
NUM_STATE_DIGITS = 12
NO_REPOSITORY = "https://example.invalid/not-published-yet"


def croissant(
    statements: Statements,
    values: Values,
    files: Mapping[str, FileRecord],
    collection: Sequence[str],
    schema: pa.Schema,
    table: str,
    origin: Origin,
) -> dict[str, Any]:
    """Return the description as JSON-LD; `files` are by path in the repository, as is the `table` of `schema`."""
    state = origin.manifest.state[:NUM_STATE_DIGITS]
    return {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": statements.title,
        "description": SUMMARY.format(pictures=pictures(values["num_samples"]), whence=whence(origin)),
        "url": statements.address or NO_REPOSITORY,
        "version": f"0.0.0+{state}",
        "datePublished": statements.date,
        "license": _licence(statements),
        "citeAs": f"{statements.title}, {statements.date}, state {state}",
        "creator": {"@type": "sc:Organization", "name": (statements.repo or "not stated").partition("/")[0]},
        "keywords": ["face", "image-text", "text-to-image"],
        "isLiveDataset": False,
        "distribution": [_file(path, record) for path, record in sorted(files.items())],
        "recordSet": [_records(schema, table)],
        "rai:dataCollection": " ".join(collection),
        "rai:dataCollectionType": ["Web Scraping" if values["fetch_seen"] is not None else "Others"],
        "rai:dataCollectionMissingData": _counted(values, ("rank", "fetch", "curate", "pack")),
        "rai:dataPreprocessingProtocol": _protocol(values),
        "rai:machineAnnotationTools": sorted({str(row[0]) for row in _rows(values, "limits")}),
        "rai:dataBiases": list(BIASES),
        "rai:dataLimitations": list(LIMITS_OF_USE),
        "rai:dataUseCases": ["Training of text-to-image models", *FORBIDDEN],
        "rai:personalSensitiveInformation": list(PERSONAL),
        "rai:dataReleaseMaintenancePlan": REMOVAL,
    }


def _licence(statements: Statements) -> str:
    stated = f" Stated by the publisher: {statements.rights}" if statements.rights else ""
    return f"The pictures belong to their owners; the column license says what each source states.{stated}"


def _file(path: str, record: FileRecord) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "contentSize": f"{record.num_bytes} B",
        "encodingFormat": next(kind for suffix, kind in KINDS.items() if path.endswith(suffix)),
        "sha256": record.sha256,
    }


def _records(schema: pa.Schema, table: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "A row for every sample.",
        "key": {"@id": "samples/uid"},
        "field": [_field(column, table) for column in schema],
    }


def _field(column: pa.Field, table: str) -> dict[str, Any]:
    kind = column.type.value_type if pa.types.is_list(column.type) else column.type
    name = "sc:Integer" if pa.types.is_integer(kind) else "sc:Float" if pa.types.is_floating(kind) else "sc:Text"
    described = {
        "@type": "cr:Field",
        "@id": f"samples/{column.name}",
        "name": column.name,
        "dataType": name,
        "source": {"fileObject": {"@id": table}, "extract": {"column": column.name}},
    }
    return described | ({"isArray": True, "arrayShape": "-1"} if pa.types.is_list(column.type) else {})


def _rows(values: Values, name: str) -> list[Any]:
    rows = values[name]
    return list(rows) if isinstance(rows, list | tuple) else []


def _counted(values: Values, stages: tuple[str, ...]) -> str:
    """Return what every stage turned away, as far as its ledgers are known."""
    parts = []
    for stage in stages:
        if values[f"{stage}_seen"] is not None:
            reasons = ", ".join(f"{by} {reason} {num}" for by, reason, num in _rows(values, f"{stage}_reasons"))
            parts.append(
                f"{stage}: {values[f'{stage}_seen']} seen, {values[f'{stage}_kept']} kept ({reasons or 'all'})"
            )
    return "; ".join(parts)


def _protocol(values: Values) -> list[str]:
    return [
        f"{by}.{score} from {'any' if least is None else least} to {'any' if most is None else most} is kept"
        for by, score, least, most in _rows(values, "limits")
    ] or ["No limit was set"]
