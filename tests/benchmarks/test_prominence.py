from benchmarks.verdicts.prominence import best_limit
from benchmarks.verdicts.proofs import Case


def case(label: str, prominence: float) -> Case:
    return Case(f"{label}/{prominence}", {}, {"text_prominence": prominence}, ())


def test_the_limit_is_the_middle_of_the_room_with_the_fewest_wrong() -> None:
    cases = [case("single", x) for x in (0.0, 0.2, 0.3, 1.9)] + [case("text", x) for x in (0.1, 0.7, 1.2)]
    assert best_limit("text_prominence", cases) == 0.5
