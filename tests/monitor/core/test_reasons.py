"""The closed lists of what a verdict may say: every word has its sentence, and broken data is told from drift."""

from enum import StrEnum

import pytest

from stationkeeper.monitor.core.reasons import (
    BLOCKS_RETRAINING,
    CAUSE_HELP,
    CHECK_HELP,
    UNKNOWN_HELP,
    Cause,
    Check,
    Unknown,
)


@pytest.mark.parametrize(("words", "sentences"), [(Cause, CAUSE_HELP), (Check, CHECK_HELP), (Unknown, UNKNOWN_HELP)])
def test_every_word_has_a_sentence_of_its_own(words: type[StrEnum], sentences: dict[str, str]) -> None:
    assert set(sentences) == set(words)
    assert len(set(sentences.values())) == len(sentences)
    for word, sentence in sentences.items():
        assert sentence.endswith("."), word


def test_a_word_is_sent_as_it_is_spelled_and_read_back() -> None:
    assert Cause("new_category") is Cause.NEW_CATEGORY
    assert f"{Check.NULL}" == "null"


@pytest.mark.parametrize(
    "check", [Check.NULL, Check.ABSENT, Check.WRONG_TYPE, Check.UNIT, Check.CONSTANT, Check.SCHEMA_MISSING]
)
def test_a_model_is_not_trained_on_a_fault(check: Check) -> None:
    assert check in BLOCKS_RETRAINING


@pytest.mark.parametrize("check", [Check.UNSEEN, Check.VANISHED, Check.BELOW, Check.ABOVE, Check.VOLUME])
def test_the_world_may_change_and_a_new_model_may_cure_it(check: Check) -> None:
    assert check not in BLOCKS_RETRAINING
