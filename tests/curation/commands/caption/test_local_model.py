"""The plumbing of `transformers`: a tiny model of random weights writes what nobody understands, with its reason."""

from pathlib import Path

import pytest

from curation.commands.caption.stage import caption
from curation.commands.curate.stage import curate
from curation.dataset.manifest import read_manifest
from curation.run.runner import Spread
from tests.curation.commands.caption.test_stage import CAPTION, RECIPE, rows_of
from tests.curation.shards import colourful, recipe_from, sample_members, write_shard

ALONE = Spread(num_workers=0)


def tiny_model(folder: Path) -> Path:
    """Write a captioning model of a few thousand random weights, with its own words."""
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "man", "woman", "red", "smiles"]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    size = {"height": 16, "width": 16}
    processor = transformers.BlipProcessor(transformers.BlipImageProcessor(size=size), tokenizer)
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**shape, "vocab_size": len(words), "encoder_hidden_size": 8, "bos_token_id": 2, "sep_token_id": 3,
            "eos_token_id": 3, "pad_token_id": 0, "max_position_embeddings": 64}  # fmt: skip
    config = transformers.BlipConfig(
        text_config=text, vision_config={**shape, "image_size": 16, "patch_size": 8}, projection_dim=8
    )
    transformers.BlipForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_model_in_the_worker_is_asked_as_a_server_is(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    table = (CAPTION % 'via = "transformers"\nmax_tokens = 12').replace('"tiny"', f'"{model}"')
    recipe = recipe_from(tmp_path, RECIPE + table)
    write_shard(tmp_path / "in", "00000", [sample_members(f"{i:05d}", colourful(i)) for i in range(3)])
    curate(tmp_path / "in", tmp_path / "curate", recipe, ALONE)
    manifest = caption(tmp_path / "curate", recipe, ALONE)
    rows = rows_of(tmp_path / "caption")
    assert not manifest.failed and len(rows) == 3
    assert {row["caption_model"] for row in rows} == {str(model)} and all(row["reply"] is not None for row in rows)
    assert caption(tmp_path / "curate", recipe, ALONE).state == manifest.state
    lost = recipe_from(tmp_path / "lost", RECIPE + table.replace(str(model), str(tmp_path / "nowhere")))
    (tmp_path / "caption").rename(tmp_path / "kept-elsewhere")
    failed = caption(tmp_path / "curate", lost, ALONE).failed
    assert "cannot be loaded" in failed["00000"]
    assert read_manifest(tmp_path / "kept-elsewhere").state == manifest.state
