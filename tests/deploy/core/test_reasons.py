"""Every reason is a sentence that its numbers complete."""

import string

import pytest

from stationkeeper.deploy.core.reasons import REASON_TEXT, Reason, because


def test_every_reason_has_its_sentence():
    assert set(REASON_TEXT) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_a_sentence_needs_each_of_its_numbers_and_keeps_them_as_evidence(reason):
    fields = {name for _, name, _, _ in string.Formatter().parse(REASON_TEXT[reason]) if name}
    numbers = dict.fromkeys(fields, 1.0)
    assert because(reason, **numbers).text
    assert because(reason, **numbers).evidence == {"code": reason.value, **numbers}
    for name in fields:
        with pytest.raises(KeyError, match=name):
            _ = because(reason, **dict.fromkeys(fields - {name}, 1.0)).text
