import pytest

from facemakeup.training.loop import Progress
from facemakeup.training.progress import steps, tell


def test_a_step_is_told_with_the_mean_loss_since_the_last_report() -> None:
    assert tell(Progress(300, 530_000, 0.123456)) == "train: step 300 of 530000, loss 0.1235"
    assert tell(Progress(301, 530_000, None)) == "train: step 301 of 530000"


@pytest.mark.parametrize(("rank", "told"), [("0", "train: step 2 of 9, loss 0.5000\n"), ("1", "")])
def test_away_from_a_terminal_only_reports_are_told_and_only_by_the_first_process(
    rank: str, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    with steps() as on_step:
        on_step(Progress(1, 9, None))
        on_step(Progress(2, 9, 0.5))
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", told)
