"""A refusal tells its HTTP status, and every refusal has one."""

import pytest

from stationkeeper.deploy.router.refusals import HTTP_STATUS, Refusal, Refused
from stationkeeper.deploy.router.requests import parse_plain


def test_refusals_carry_their_status():
    with pytest.raises(Refused) as refused:
        parse_plain(b"[]", 0)
    assert refused.value.status == 400


def test_every_refusal_has_a_status():
    assert set(HTTP_STATUS) == set(Refusal)
