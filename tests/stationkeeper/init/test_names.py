"""What a field's name says of its part, whether its path is nested or written out in one key."""

import pytest

from stationkeeper.init.names import likelihood


@pytest.mark.parametrize(
    ("field", "key"),
    [("event_id", "req.id"), ("time", "event.time"), ("version", "model.revision"), ("prediction", "out.score")],
)
def test_a_dotted_key_says_what_the_same_path_says_nested(field: str, key: str):
    assert likelihood(field, (key,)) == likelihood(field, tuple(key.split("."))) is not None


def test_a_label_within_an_answer_is_none_in_either_form_and_dots_alone_are_no_name():
    assert likelihood("label", ("prediction", "label")) is None
    assert likelihood("label", ("prediction.label",)) is None
    assert likelihood("label", ("..",)) is None
