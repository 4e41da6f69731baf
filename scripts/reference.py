"""Writes the reference pages, docs/reference/*.md, from what the code says of itself; a test holds them against it.

    python scripts/reference.py [FOLDER]

Meanings are docstrings of fields, catalogues (`MEANINGS` of filters, `curation/dataset/reasons.py`) and, where the code
has no place for them, the tables below.
"""

import ast
import importlib
import inspect
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Union, get_args, get_origin

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import cli  # noqa: E402
from curation.command_line import options  # noqa: E402
from curation.commands.caption.rows import LEDGER_SCHEMA as CAPTION_SCHEMA  # noqa: E402
from curation.commands.caption.rows import PROVENANCE  # noqa: E402
from curation.commands.fetch.rows import LEDGER_SCHEMA as FETCH_SCHEMA  # noqa: E402
from curation.commands.pack.rows import DUPLICATE_OF, schema_of  # noqa: E402
from curation.commands.rank.stage import LEDGER_SCHEMA as RANK_SCHEMA  # noqa: E402
from curation.dataset.caption_facts import CaptionFacts  # noqa: E402
from curation.dataset.ledger import BASE_FIELDS  # noqa: E402
from curation.dataset.reasons import OF_STAGES  # noqa: E402
from curation.images.decode import FORMER_REASONS, REASONS  # noqa: E402
from curation.measure.cascade import FAULTS, QUARANTINE, UNREADABLE  # noqa: E402
from curation.measure.columns import EXTRA_FIELDS  # noqa: E402
from curation.measure.meanings import score_meanings  # noqa: E402
from curation.recipe.captioning import CaptionChecks, CaptioningSettings  # noqa: E402
from curation.recipe.filter_plan import FilterStanza, filter_names  # noqa: E402
from curation.recipe.joint_scores import JOINT_SCORES  # noqa: E402
from curation.recipe.judge import KeepRange  # noqa: E402
from curation.recipe.recipe import RecipeFile, bundled_recipes, load_recipe, recipe_text  # noqa: E402
from curation.recipe.screens import Proof, ScreenStanza  # noqa: E402
from curation.recipe.settings import (  # noqa: E402
    CaptionSettings,
    CurateSettings,
    DecodeLimits,
    FetchSettings,
    GateSettings,
    PackSettings,
    RankSettings,
)
from filters.base import FaceCaptionError  # noqa: E402

HEAD = "Written by `scripts/reference.py` from the code; `python scripts/reference.py` writes it anew.\n"
NAMES: Mapping[Any, str] = {int: "whole number", float: "number", str: "text", bool: "true or false"}
UNITS = (
    ("_px", "pixels"), ("_side", "pixels"), ("_per_s", "bytes a second"), ("_s", "seconds"), ("_mib", "MiB"),
    ("max_bytes", "bytes"), ("_bytes", "bytes"), ("_deg", "degrees"), ("_fraction", "0..1"), ("_bits", "bits"),
    ("_iou", "0..1"), ("confidence", "0..1"), ("_words", "words"), ("_characters", "characters"), ("_rows", "rows"),
    ("_samples", "samples"), ("_aspect", "ratio"), ("_pixels", "pixels"), ("_seed", "whole number"),
)  # fmt: skip
"""End of a key -> the unit of its value."""
EXAMPLES: Mapping[str, Any] = {
    "min_side_px": 256, "max_aspect": 3.0, "min_face_side_px": 64, "min_num_faces": 1, "max_num_faces": 1,
    "max_pwatermark": 0.8, "max_words": 80, "max_repeats": 100, "near_duplicate_bits": 6, "min": 0.5, "max": 45.0,
    "face_height": 0.35, "name": "colour", "schema_version": 1, "filter": "text_map", "top": 10_000_000,
    "when": {"text_prominence": {"max": 0.02}}, "then": {"text_prominence": {"max": 0.52}},
    "model": "qwen2.5-vl-7b", "revision": "a1b2c3d", "prompt": "Describe the picture in one sentence.",
    "proofs": [{"when": {}, "then": {}}], "spots": {"weights": "ppocr_v4_det"}, "description": "Removes grey pictures.",
}  # fmt: skip
"""Values of keys that have no default to show."""
COLUMNS: Mapping[str, tuple[str, str, str]] = {
    "uid": ("identity: half of the SHA-256 of the normalised URL, else of the bytes", "32 hex digits", "a3f0…"),
    "key": ("name of the sample in the shard that was read", "text", "000120007"),
    "url": ("where the picture comes from", "URL; null if unknown", "https://example.org/a.jpg"),
    "sha256": ("of the picture's bytes", "64 hex digits; null where there are none", "9b1c…"),
    "width": ("of the upright picture; in `rank` and `fetch` as the crawl recorded it", "pixels", "1024"),
    "height": ("of the upright picture; in `rank` and `fetch` as the crawl recorded it", "pixels", "768"),
    "kept": ("whether the sample goes on", "true or false", "true"),
    "rejected_by": ("who turned it away: stage, filter, `unreadable`, `quarantine`, `forget`", "name; null", "faces"),
    "reason": ("why ([reasons](reasons.md))", "code; null", "num_faces_high"),
    "num_facecaption_rows": ("rows of FaceCaption's metadata that name it", "rows", "2"),
    "num_laion_rows": ("rows of LAION's metadata that name it", "rows", "1"),
    "status": ("what the server answered", "HTTP status; null", "404"),
    "headers": ("headers of the answer that count as evidence", "JSON object; null", '{"content-type": "image/jpeg"}'),
    "final_url": ("where redirects led", "URL; null", "https://cdn.example.org/a.jpg"),
    "num_bytes": ("size of the picture's file", "bytes", "183204"),
    "phash": ("perceptual hash", "64 bits, hex; null", "c3a5…"),
    "fetched_width": ("of the picture that arrived", "pixels; null", "1024"),
    "fetched_height": ("of the picture that arrived", "pixels; null", "768"),
    "contradicts_size": ("whether it is not of the size that the crawl recorded", "true or false; null", "false"),
    "face_side": ("shorter side of FaceCaption's largest box", "pixels of the fetched picture; null", "212.0"),
    "opt_out": ("who does not want it used: where it stands, value, source and date", "JSON object; null", "null"),
    "format": ("what the bytes are", "`jpg`, `png`, `webp`, ...; null", "jpg"),
    "num_captions": ("captions that came with it", "captions", "3"),
    "captions": ("what each caption is like; only with `[captions]`", "list of the struct below", "[…]"),
    "joint_scores": ("scores of two evidences ([scores](scores.md)); null while not settled", "struct", "{…}"),
    "reply": ("what the model said, as it came; 8,192 characters at most", "text; null where nothing came", "A woman…"),
    "num_reply_characters": ("how long it was", "characters; null", "214"),
    "finish_reason": ("why it ended there", "`stop`, `length`, ...; null", "stop"),
    "answered_by": ("what the server calls its model", "text; null", "qwen2.5-vl-7b"),
    "num_requests": ("how often the picture was asked about", "requests", "1"),
    "caption_model": ("which model was asked; in `pack` null where another caption was taken", "text", "qwen2.5-vl-7b"),
    "caption_revision": ("which state of it, as the recipe states", "text", "a1b2c3d"),
    "caption_prompt_sha256": ("of the prompt", "64 hex digits", "9b1c…"),
    "caption_time": ("when the reply came", "UTC, ISO 8601", "2026-11-30T19:40:00Z"),
    "has_caption": ("whether the reply is fit; the same once the picture is forgotten", "true or false; null", "true"),
    "source_shard": ("the curated shard that it was packed from", "name", "00012"),
    "source_sha256": ("of the bytes before metadata was taken out", "64 hex digits", "9b1c…"),
    "shard": ("the packed shard that it lies in", "name; null", "00003"),
    "offset": ("where its picture's tar header stands in that shard", "bytes; null", "1536000"),
    "caption_source": ("whose caption was packed", "`facecaption`, `laion`, `text`, `model`; null", "facecaption"),
    "caption_binding": ("whether the caption is bound to a face, or why not", "code; null", "bound"),
    "license": ("licence, as the source says it", "text; null", "CC-BY-4.0"),
    "author": ("author, as the source says it", "text; null", "A. Photographer"),
    "rights_json": ("all columns of rights, by the source's own names", "JSON object; null", "null"),
    "duplicate_of": ("uid of the picture that is packed in its place; only with near duplicates", "uid; null", "a3f0…"),
}  # fmt: skip
ENVIRONMENT: Sequence[tuple[str, str, str, str]] = (
    ("FACECAPTIONHQ_MODELS", "folder of weights, searched before the user's cache", "path", "/data/models"),
    ("FACECAPTIONHQ_FILTERS", "folders of filters of one's own, on every machine", "as in PATH", "/data/filters"),
    ("FACECAPTIONHQ_CAPTION_KEY", "bearer token of the server that `caption` asks, on every machine", "text", "sk-…"),
    ("FACECAPTIONHQ_GOLD", "labelled photos, for tests and benchmarks alone", "path", "/data/gold"),
    ("FACECAPTIONHQ_GOLD2", "a second set of them, for benchmarks alone", "path", "/data/gold2"),
    ("XDG_CACHE_HOME", "where the cache of weights and exports lies: `facecaptionhq` below it", "path", "/data/cache"),
    ("TMPDIR", "where scratch folders, and a Ray of one's own, lie; a short path with room", "path", "/scratch"),
    ("AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE", "who asks an S3 store", "text", "AKIA…"),
    ("AWS_ENDPOINT_URL", "an S3 store that is not Amazon's", "URL", "http://127.0.0.1:9000"),
    ("RAY_AUTH_MODE", "`token` asks for Ray's token on a cluster ([cluster](../cluster.md))", "word", "token"),
    ("OMP_NUM_THREADS", "threads of numeric libraries in each worker; workers are spread one to a core", "number", "1"),
    ("CUDA_VISIBLE_DEVICES", "which GPUs may be used", "numbers", "0,1"),
    ("NO_COLOR", "no colours on the terminal, whatever its value", "any", "1"),
)  # fmt: skip
OTHER_CODES = (
    (0, "done", "everything is as it was asked for"),
    (70, "a bug", "no error of ours: the traceback is printed; please report it"),
    (cli.EXIT_INTERRUPTED, "interrupted", "Ctrl-C: what is committed stays, and the same command goes on"),
    (cli.EXIT_TERMINATED, "terminated", "SIGTERM: the same"),
    (options.EXIT_SOME_SHARDS_FAILED, "some shards failed", "the same command again retries only them"),
    (options.EXIT_NEXT_TO_NOTHING, "next to nothing came", "of `fetch` and `pack`: the folder is whole"),
    (options.EXIT_INCOMPLETE, "not all was found or reached", "of `forget`: it is done, and what it missed is named"),
    (options.EXIT_FAULTS_FOUND, "faults", "of `verify`: each is named"),
    (options.EXIT_WEIGHTS_WRONG, "weights are wrong", "of `models verify`: a file has other bytes than it should"),
)  # fmt: skip


def pages() -> dict[str, str]:
    """Return every page by its file name."""
    return {
        "recipe.md": _recipe(),
        "scores.md": _scores(),
        "reasons.md": _reasons(),
        "exit-codes.md": _exit_codes(),
        "ledger.md": _ledger(),
        "environment.md": _environment(),
    }


def _recipe() -> str:
    settings = (
        ("(top level)", RecipeFile, ("schema_version", "name", "description")), ("[rank]", RankSettings, None),
        ("[rank.gates]", GateSettings, None), ("[fetch]", FetchSettings, None), ("[decode]", DecodeLimits, None),
        ("[curate]", CurateSettings, None), ("[captions]", CaptionSettings, None),
        ("[caption]", CaptioningSettings, None), ("[caption.checks]", CaptionChecks, None),
        ("[pack]", PackSettings, None), ("[[filters]]", FilterStanza, None), ("[filters.keep.SCORE]", KeepRange, None),
        ("[[filters.screens]]", ScreenStanza, None), ("[[filters.screens.proofs]]", Proof, None),
    )  # fmt: skip
    parts = ["# Every key of a recipe", HEAD, "Types and limits are checked before anything starts.\n"]
    for title, model, names in settings:
        parts += [f"## {title}", _summary(model), _keys(model, names)]
    for name in filter_names():
        module = importlib.import_module(f"filters.{name}")
        for table, model in (("measure", module.Measure), ("score", module.Score)):
            if model.model_fields:
                parts += [f"## `{name}`: {table}", _summary(model), _keys(model)]
    for name, joint in JOINT_SCORES.items():
        parts += [f"## `{joint.owner}`: joint.{name}", _summary(joint), _keys(joint)]
    return "\n".join(parts)


def _keys(model: Any, names: Sequence[str] | None = None) -> str:
    docs = field_docs(model)
    rows = []
    for name, field in model.model_fields.items():
        if (names is None or name in names) and (names is not None or not _is_table(field.annotation)):
            default = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))
            kind, unit = _kind(field), _unit(name, field.annotation)
            rows.append((f"`{name}`", kind, unit, default, docs[name], _shown(_example(name, field))))
    return _table(("key", "type", "unit", "default", "meaning", "example"), rows)


def _is_table(annotation: Any) -> bool:
    return any(hasattr(part, "model_fields") for part in (annotation, *get_args(annotation)))


def _kind(field: Any) -> str:
    limits = [
        f"{sign} {value:g}"
        for item in field.metadata
        for sign, attribute in ((">=", "ge"), (">", "gt"), ("<=", "le"), ("<", "lt"))
        if (value := getattr(item, attribute, None)) is not None
    ]
    return ", ".join([_type(field.annotation), *limits])


def _type(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is Union or type(kind).__name__ == "UnionType":
        return " or ".join("none" if part is type(None) else _type(part) for part in arguments)
    if origin in (tuple, list):
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return "table"
    return NAMES.get(kind, "table" if hasattr(kind, "model_fields") else getattr(kind, "__name__", str(kind)))


def _unit(name: str, annotation: Any) -> str:
    told = _type(annotation)
    if "number" not in told:
        return "—"
    return next((unit for end, unit in UNITS if name.endswith(end)), "count" if name.startswith("num_") else "—")


def _example(name: str, field: Any) -> Any:
    if name in _used():
        return _used()[name]
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    return EXAMPLES.get(name, "—" if default in (None, "", (), {}) else default)


@cache
def _used() -> dict[str, Any]:
    """Return a value of every key that a bundled recipe sets."""
    found: dict[str, Any] = {}

    def walk(values: Any) -> None:
        for key, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, dict):
                walk(value)
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                for each in value:
                    walk(each)
            else:
                found.setdefault(key, value)

    for name in bundled_recipes():
        walk({key: value for key, value in tomllib.loads(recipe_text(name)).items() if key not in ("name",)})
    return {key: value for key, value in found.items() if key not in EXAMPLES}


def _scores() -> str:
    parts = [
        "# Every score",
        HEAD,
        "A keep range names a score: `keep.SCORE = { min = ..., max = ... }`. A picture outside is rejected by the",
        "filter, with the reason `SCORE_low`, `SCORE_high` or, where no number came out, `SCORE_not_finite`.\n",
    ]
    head = ("score", "meaning", "unit", "example", "too low says", "too high says", "joint of")
    for name in filter_names():
        meanings = score_meanings(name)
        owned = set(importlib.import_module(f"filters.{name}").SCORES)
        rows = [
            (f"`{score}`", known.about, known.unit, f"{known.example:g}", known.low or "—", known.high or "—",
             "" if score in owned else ", ".join(f"`{i}`" for i in JOINT_SCORES[score].inputs))
            for score, known in meanings.items()
        ]  # fmt: skip
        parts += [f"## `{name}`", _table(head, rows)]
    return "\n".join(parts)


def _reasons() -> str:
    parts = [
        "# Every reason",
        HEAD,
        "What `reason` of a ledger may hold, by `rejected_by`. All of it is one sample's.\n",
    ]
    for stage, table in OF_STAGES.items():
        parts += [f"## `{stage}`", _table(("reason", "meaning"), [(f"`{r}`", m) for r, m in table.items()])]
        if stage == "fetch":
            parts.append("Other refusals of a server are `http_` and its status, such as `http_451`.\n")
    parts += [
        f"## `{UNREADABLE}`",
        _table(("reason", "meaning"), [(f"`{r}`", m) for r, m in {**REASONS, **FORMER_REASONS}.items()]),
    ]
    parts += [f"## `{QUARANTINE}`", _table(("reason", "meaning"), [(f"`{r}`", m) for r, m in FAULTS.items()])]
    parts.append("## A filter")
    rows = [
        (f"`{name}`", f"`{score}_{kind}`", known.failure(kind))
        for name in filter_names()
        for score, known in score_meanings(name).items()
        for kind in ("low", "high")
        if getattr(known, kind)
    ]
    parts += ["Any keep range may reject so; `_not_finite` says that no number came out. What is wrong then:\n"]
    parts.append(_table(("filter", "reason", "meaning"), rows))
    return "\n".join(parts)


def _exit_codes() -> str:
    rows = [(str(code), name, text) for code, name, text in OTHER_CODES]
    for error in sorted(every_error(), key=lambda kind: (kind.exit_code, kind.__name__)):
        rows.append((str(error.exit_code), f"`{error.__name__}`", _summary(error).strip()))
    return "\n".join(("# Every exit code", HEAD, _table(("code", "what", "meaning"), rows)))


def every_error() -> set[type[FaceCaptionError]]:
    """Return every error of ours that a command can end with."""
    for name in _modules_with_errors():
        importlib.import_module(name)
    found: set[type[FaceCaptionError]] = set()
    waiting = [FaceCaptionError]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            if kind.__module__.partition(".")[0] in ("curation", "filters", "facemakeup"):
                found.add(kind)
    inside = {"UnreadableError", "ContainerError", "BlockedAddressError", "SampleFaultError"}
    return {kind for kind in found if kind.__name__ not in inside}


def _modules_with_errors() -> Iterator[str]:
    for package in ("curation", "filters", "facemakeup"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if "Error):" in path.read_text(encoding="utf-8"):
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _ledger() -> str:
    curated = [(column, "curate") for column in EXTRA_FIELDS]
    pack = schema_of(load_recipe("facecaptionhq-strict"))
    stages = (
        ("Everywhere", list(BASE_FIELDS)), ("`rank` adds", RANK_SCHEMA), ("`fetch` adds", FETCH_SCHEMA),
        ("`curate` adds", [column for column, _ in curated]), ("`caption` adds", CAPTION_SCHEMA),
        ("`pack` adds", [*pack, *PROVENANCE, DUPLICATE_OF]),
    )  # fmt: skip
    parts = ["# Every column of a ledger", HEAD]
    base = {column.name for column in BASE_FIELDS}
    for title, columns in stages:
        rows = {
            column.name: (f"`{column.name}`", str(column.type), *COLUMNS[column.name])
            for column in columns
            if title == "Everywhere" or column.name not in base
        }
        parts += [f"## {title}", _table(("column", "type", "meaning", "unit or form", "example"), list(rows.values()))]
    parts += [
        "`curate` has further columns, by the recipe: `captions` and `joint_scores`, and for each filter",
        "`{filter}_scores` (a struct of its [scores](scores.md)) and `{filter}_evidence` (below); a screen of a filter",
        "has both under `{filter}_screen`, further ones under `{filter}_screen_2`, ... Null where not measured.\n",
        _table(
            ("column", "meaning", "form", "example"), [(f"`{c}`", *COLUMNS[c]) for c in ("captions", "joint_scores")]
        ),
    ]
    for title, kind in (("`captions`", CaptionFacts), *((f"`{n}_evidence`", _evidence(n)) for n in filter_names())):
        docs = field_docs(kind)
        rows = [(f"`{f.name}`", _type_name(f.type), docs.get(f.name, f.name.replace("_", " "))) for f in fields(kind)]
        parts += [f"## {title}", _summary(kind), _table(("field", "type", "meaning"), rows)]
    return "\n".join(parts)


def _evidence(name: str) -> Any:
    return importlib.import_module(f"filters.{name}").EVIDENCE


def _type_name(kind: Any) -> str:
    if get_args(kind) or not isinstance(kind, type):
        return _type(kind)
    return NAMES.get(kind, kind.__name__)


def _environment() -> str:
    rows = [(", ".join(f"`{part}`" for part in name.split(", ")), *rest) for name, *rest in ENVIRONMENT]
    return "\n".join(("# Every environment variable", HEAD, _table(("variable", "meaning", "form", "example"), rows)))


def field_docs(kind: type) -> dict[str, str]:
    """Return the docstring of every field of a class, its bases' included."""
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        module = inspect.getmodule(base)
        if isinstance(module, ModuleType) and module.__name__.partition(".")[0] in ("curation", "filters"):
            docs |= _docs_in(module.__name__, base.__name__)
    return docs


@cache
def _docs_in(module: str, name: str) -> dict[str, str]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name]
    return {
        field.target.id: " ".join(str(told.value.value).split())
        for node in classes
        for field, told in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        and isinstance(told, ast.Expr) and isinstance(told.value, ast.Constant)
    }  # fmt: skip


def _summary(kind: Any) -> str:
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split()) + "\n"


def _shown(value: Any) -> str:
    if value == "—":
        return "—"
    if value is None:
        return "none"
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the pages into the folder that is named, or where they belong."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "reference"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
