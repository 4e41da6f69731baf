"""Curation of face image-text data: the stages from metadata to packed shards, and what asks and tends a run.

This is the public API, with `curation.errors`; whatever else lies below `curation` is private and may change with any
release. Names are loaded when they are first asked for, so importing this package costs nothing.

    recipe = load_recipe("facecaptionhq-4m")                # -> Recipe: a bundled one, or a TOML file's
    alone, two = Spread(num_workers=0), Spread(num_workers=2)
    run = location("run")                                   # a folder, or an address such as s3://bucket/run

    rank(facecaption, laion, run / "rank", recipe, Safeguards(release=relaion))
    plan(run / "rank", recipe, two, num_sampled=2000)       # -> Forecast: what the run will bring and cost
    fetch(run / "rank", run / "fetch", recipe, two)
    manifest = curate(run / "fetch", run / "curate", recipe, two)
    print(manifest.num_kept, manifest.rejected)             # a Manifest; its shards are ShardReports
    pack(run / "curate", run / "pack", recipe, two)
    write_report(run)                                       # -> the path of the page

    open_picture(image_bytes)                               # a packed picture as the trainer sees it: upright sRGB
    read_manifest(run / "curate").shards[0].files           # what a finished folder holds
    read_ledger(run / "curate/00000.parquet").to_pylist()   # one row for every sample that ever entered
    why(run, uid)[0].stages                                 # -> a Story per image: every score, every limit
    foresee(run, other)                                     # -> Preview: what another Recipe would change, and cost
    decide(run, other, two)                                 # do it
    forget(run, read_requests(["domain:example.org"], "a list"))
    verify(run, two).faults                                 # -> Verification: everything derived again from disk

Every function says what it raises; all of it is a `curation.errors.FaceCaptionError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curation.commands.curate.stage import curate
    from curation.commands.decide.preview import Preview
    from curation.commands.decide.stage import decide, foresee
    from curation.commands.fetch.stage import fetch
    from curation.commands.forget.stage import forget
    from curation.commands.forget.takedowns import read_requests
    from curation.commands.pack.stage import pack
    from curation.commands.plan.forecast import Forecast, plan
    from curation.commands.rank.stage import Safeguards, rank
    from curation.commands.report.write import write_report
    from curation.commands.verify.check import verify
    from curation.commands.verify.faults import Verification
    from curation.commands.why.story import Story, why
    from curation.dataset.ledger import read_ledger
    from curation.dataset.manifest import Manifest, ShardReport, read_manifest
    from curation.images.open_picture import open_picture
    from curation.recipe.recipe import Recipe, load_recipe
    from curation.run.runner import Spread
    from curation.storage.paths import location

__all__ = [
    "Forecast",
    "Manifest",
    "Preview",
    "Recipe",
    "Safeguards",
    "ShardReport",
    "Spread",
    "Story",
    "Verification",
    "curate",
    "decide",
    "fetch",
    "foresee",
    "forget",
    "load_recipe",
    "location",
    "open_picture",
    "pack",
    "plan",
    "rank",
    "read_ledger",
    "read_manifest",
    "read_requests",
    "verify",
    "why",
    "write_report",
]

_HOMES = {
    "commands.curate.stage": ("curate",),
    "commands.decide.preview": ("Preview",),
    "commands.decide.stage": ("decide", "foresee"),
    "commands.fetch.stage": ("fetch",),
    "commands.forget.stage": ("forget",),
    "commands.forget.takedowns": ("read_requests",),
    "commands.pack.stage": ("pack",),
    "commands.plan.forecast": ("Forecast", "plan"),
    "commands.rank.stage": ("Safeguards", "rank"),
    "commands.report.write": ("write_report",),
    "commands.verify.check": ("verify",),
    "commands.verify.faults": ("Verification",),
    "commands.why.story": ("Story", "why"),
    "dataset.ledger": ("read_ledger",),
    "dataset.manifest": ("Manifest", "ShardReport", "read_manifest"),
    "images.open_picture": ("open_picture",),
    "recipe.recipe": ("Recipe", "load_recipe"),
    "run.runner": ("Spread",),
    "storage.paths": ("location",),
}
"""Module below this package -> the public names that live there."""


def __getattr__(name: str) -> Any:
    """Load a public name (PEP 562)."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
