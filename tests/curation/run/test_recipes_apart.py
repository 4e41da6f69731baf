"""A refusal says in what recipes differ by the keys that `--set` takes, and what it advises makes the very recipe."""

import shlex
from pathlib import Path

import pytest

from curation.dataset.manifest import Manifest
from curation.dataset.stages import CURATE
from curation.errors import UsageError
from curation.recipe.recipe import Recipe, load_recipe
from curation.run.recipes_apart import require_curated_by


def refusal(made_by: Recipe, asked: Recipe) -> str:
    extra = {"curate_digest": made_by.curate_digest}
    manifest = Manifest(
        CURATE.name, made_by.name, made_by.digest, "", 0, 0, {}, (), extra=extra, recipe=made_by.resolved
    )
    with pytest.raises(UsageError) as refused:
        require_curated_by(Path("run/curate"), manifest, asked, "pack")
    return str(refused.value)


OTHER = ["curate.measure=all", "filters.faces.keep.num_faces.max=3.0"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("demo", OTHER),
        ("facecaptionhq-strict", OTHER),
        ("facecaptionhq-strict", ["pack.max_caption_characters=77"]),
    ],
)
def test_the_options_that_a_refusal_names_make_the_recipe_that_decided(name: str, changes: list[str]) -> None:
    made_by, asked = load_recipe(name, changes), load_recipe(name)
    told = refusal(made_by, asked)
    words = shlex.split(told.partition(" as it is, add ")[2].partition("; or decide")[0])
    typed = [word for word in words if "=" in word]
    assert sorted(typed) == sorted(changes)
    assert load_recipe(name, typed).curate_digest == made_by.curate_digest


def test_where_no_option_leads_back_none_is_named(tmp_path: Path) -> None:
    strict = load_recipe("facecaptionhq-strict")
    text = Path(strict.path).read_text(encoding="utf-8")
    head, _, rest = text.partition("[captions]")
    (tmp_path / "plain.toml").write_text(head + rest[rest.index("\n[") :], encoding="utf-8")
    told = refusal(strict, load_recipe(tmp_path / "plain.toml"))
    assert "captions is given there and absent here" in told and "--set" not in told
