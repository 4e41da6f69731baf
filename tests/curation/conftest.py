"""A Ray cluster for every test that wants workers and does not ask which."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.curation.cluster import calm_environment, cluster

NUM_CPUS = 2


@pytest.fixture(scope="session")
def ray_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a cluster of one node of two CPUs listens; a test that kills its workers leaves it whole."""
    folder = tmp_path_factory.mktemp("ray")
    with ExitStack() as lasting:
        with pytest.MonkeyPatch.context() as patch:
            # Ray keeps the first token that a process loads, so a cluster that lives beside others asks for none.
            for name, value in (calm_environment(folder) | {"RAY_AUTH_MODE": "disabled"}).items():
                patch.setenv(name, value)
            made = lasting.enter_context(cluster(folder, num_nodes=0, num_head_cpus=NUM_CPUS))
        yield made.address
