"""Which actions keep labels away."""

from stationkeeper.contracts.labels.actions import ActionLabels, shut_actions


def test_an_action_is_shut_where_its_labels_were_due_and_did_not_come():
    approved = ActionLabels("approve", 1_000, 900)
    assert shut_actions([approved, ActionLabels("block", 200, 18)]) == (ActionLabels("block", 200, 18),)
    assert shut_actions([approved, ActionLabels("block", 200, 19)]) == ()
    # Of eleven rows 9.9 labels were due: too few to tell.
    assert shut_actions([approved, ActionLabels("block", 11, 0)]) == ()
    assert shut_actions([ActionLabels("block", 200, 0)]) == ()
    # Where a sample of the stream is labelled and a few are reviewed in full, the stream is not shut.
    sampled, reviewed = ActionLabels("approve", 100_000, 9_000), ActionLabels("review", 40, 40)
    assert shut_actions([sampled, reviewed]) == ()
    assert shut_actions([sampled, reviewed, ActionLabels("block", 1_000, 9)]) == (ActionLabels("block", 1_000, 9),)
