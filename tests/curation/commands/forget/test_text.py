from pathlib import Path

from curation.commands.forget.text import tell


def test_a_receipt_is_told_by_its_counts_and_last_by_where_it_lies() -> None:
    receipt = {
        "requests": [{"num_images": 1}, {"num_images": 0}, {"num_images": 4}],
        "num_images": 5,
        "rewritten": [{"file": "fetch/00000.tar"}, {"file": "curate/00000.tar"}],
        "deleted": [{"file": "report/index.html"}],
    }
    assert tell(Path("run/forgotten/receipt-000001.json"), receipt).splitlines() == [
        "3 requests, 2 of them found: 5 images",
        "2 files rewritten, 1 deleted",
        "run/forgotten/receipt-000001.json",
    ]
