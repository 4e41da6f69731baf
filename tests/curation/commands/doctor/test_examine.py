import pytest

from curation.commands.doctor import examine as examine_module
from curation.commands.doctor.examine import _device, _weights, look_at_python


@pytest.mark.parametrize(
    ("version", "fact"),
    [
        ((3, 11), "CPython 3.11: tested whole"),
        ((3, 12), "CPython 3.12: tested by a smoke run"),
        ((3, 13), "CPython 3.13: tested by a smoke run"),
        ((3, 14), "CPython 3.14: locked, but nothing has run on it"),
    ],
)
def test_the_doctor_says_how_far_a_python_is_tested(version: tuple[int, int], fact: str) -> None:
    found = look_at_python("CPython", version)
    assert (found.ok, found.fact) == (True, fact)


@pytest.mark.parametrize(("implementation", "version"), [("CPython", (3, 10)), ("CPython", (3, 15)), ("PyPy", (3, 11))])
def test_a_python_without_a_lock_is_bad_and_the_doctor_names_the_tested_ones(
    implementation: str, version: tuple[int, int]
) -> None:
    found = look_at_python(implementation, version)
    assert not found.ok
    assert found.fact.endswith("there is no lock for it")
    assert found.mend == "use CPython 3.11, 3.12 or 3.13"


def test_a_recipe_that_is_none_is_answered_with_the_nearest_name_and_where_the_names_are() -> None:
    (found,) = _weights("facecaptionhq-5m", ())
    assert not found.ok and "did you mean facecaptionhq-4m?" in found.fact
    assert "facecaptionhq recipes list" in found.mend
    (broken,) = _weights("demo", ("curate.measure=some",))
    assert "--set" in broken.mend and "recipes list" not in broken.mend


@pytest.mark.slow
def test_the_operators_of_torchvision_are_tried_without_importing_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine_module.operators_load()
    monkeypatch.setattr(examine_module, "TORCH_LIBRARIES", ("libtorch.so.of.another",))
    assert not examine_module.operators_load()


def test_the_doctor_tells_of_a_device_only_where_the_recipe_wants_one() -> None:
    assert list(_device("facecaptionhq-4m", ())) == list(_device("facecaptionhq-5m", ())) == []
    (missing,) = _device("facecaptionhq-4m", ('curate.device="cuda:0"', "curate.device_server=true"))
    assert not missing.ok and "onnxruntime-gpu" in missing.fact and missing.subject == "device cuda:0 with a server"


def test_the_doctor_asks_a_device_server_to_come_up() -> None:
    (found,) = _device("facecaptionhq-4m", ("curate.device_server=true",))
    assert found.ok and found.fact.startswith("listens at ")
