"""Which way of weighing lettering a source is judged by, the other sources alone say."""

from benchmarks.verdicts.beside_faces import WAYS, nested
from benchmarks.verdicts.proofs import Case

GOOD = list(WAYS)[3]


def case(name: str, good: float, bad: float) -> Case:
    return Case(name, {}, {**dict.fromkeys(WAYS, bad), GOOD: good}, ())


def test_a_source_is_judged_by_the_way_and_the_limit_that_the_others_chose() -> None:
    cases = [case(f"single/{n}", 0.1, n / 10) for n in range(4)] + [case(f"text/{n}", 0.9, n / 10) for n in range(4)]
    cases.append(case("text/odd", 0.1, 0.9))
    sources = {one.name: "odd" if one.name == "text/odd" else one.name[-1] for one in cases}
    found = nested(cases, sources)
    assert found["ways"] == {GOOD: 5}
    assert found["wrong"]["text"]["wrong"] == ["odd: 0.10"]
    assert found["wrong"]["single"]["num"] == 0 and found["wrong"]["text"]["of"] == 5
