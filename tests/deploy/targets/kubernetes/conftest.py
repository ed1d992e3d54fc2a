from collections.abc import Iterator

import pytest

from tests.cluster.double import Double, running


@pytest.fixture
def cluster() -> Iterator[Double]:
    with running(Double()) as double:
        yield double
