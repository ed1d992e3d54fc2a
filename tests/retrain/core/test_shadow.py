"""What a challenger would have answered otherwise, by hand: who flips, who was right, where it lies, in what order."""

from dataclasses import replace

import numpy as np
import pytest

from stationkeeper.retrain.core.shadow import MOST_ROWS, DisagreementKind, PairedAnswers, Right, places, replay, tail

NAN = float("nan")
BINARY = PairedAnswers(
    task="binary",
    times=np.arange(6, dtype=np.int64) * 1_000,
    champion=np.array([0.1, 0.9, 0.2, 0.8, 0.3, NAN]),
    challenger=np.array([0.7, 0.1, 0.2, NAN, 0.6, 0.9]),
    thresholds=(0.5, 0.5),
    labels=np.array([1.0, 1.0, NAN, 0.0, 0.0, 1.0]),
    fresh=np.array([True, True, True, True, False, True]),
    classes=("honest", "fraud"),
)


def test_flips_and_lost_answers_are_counted_and_labels_of_rows_not_learnt_from_say_who_was_right():
    shadow, rows = replay(BINARY, ())
    # Rows 0, 1 and 4 flip, row 3 lost its answer; of row 5 the champion had none to differ from.
    assert (shadow.rows, shadow.flipped, shadow.risen, shadow.silent) == (6, 4, 2, 1)
    assert shadow.flip_share == pytest.approx(4 / 6)
    # Row 0: the challenger; row 1: the champion; row 3 was 0.8 for an honest one: neither. Row 4 was learnt from.
    assert (shadow.labelled, shadow.challenger_right, shadow.champion_right) == (3, 1, 1)
    assert [(one.row, one.kind, one.right) for one in rows] == [
        (3, DisagreementKind.SILENT, Right.NEITHER),
        (1, DisagreementKind.FLIP, Right.CHAMPION),
        (0, DisagreementKind.FLIP, Right.CHALLENGER),
        (4, DisagreementKind.FLIP, Right.UNKNOWN),
        # Above 37.5 % of the four rows that both answered, and now above 37.5 % too: row 2 is no disagreement.
    ]


def test_a_row_says_in_words_what_becomes_of_it():
    _, rows = replay(BINARY, ())
    assert rows[0].reason == "fraud (0.8) becomes no number; the label says honest: neither was right"
    assert rows[1].reason == (
        "fraud (0.9, above 87.5% of the rows) becomes honest (0.1, above 12.5% of the rows); "
        "the label says fraud: the champion was right"
    )
    assert "label" not in rows[3].reason


def test_where_neither_has_a_number_nothing_was_lost():
    told, rows = replay(replace(BINARY, champion=BINARY.challenger), ())
    assert (told.flipped, told.silent, told.moved, rows) == (0, 0, 0.0, [])


def test_scores_of_another_scale_in_the_same_order_are_no_disagreement_and_a_moved_threshold_is():
    same = replace(BINARY, champion=np.linspace(0.1, 0.9, 6), challenger=np.linspace(0.01, 0.09, 6))
    told, rows = replay(replace(same, thresholds=(0.5, 0.05)), ())
    assert (told.flipped, told.moved, rows) == (0, 0.0, [])
    # By the cut alone: the fourth row was positive.
    told, rows = replay(replace(same, thresholds=(0.5, 0.07)), ())
    assert (told.flipped, told.risen, [one.row for one in rows]) == (1, 0, [3])


def test_of_several_classes_the_class_flips_and_neither_may_be_right():
    several = replace(
        BINARY,
        task="multiclass",
        times=BINARY.times[:3],
        champion=np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.6, 0.3, 0.1]]),
        challenger=np.array([[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1]]),
        labels=np.array([1.0, 2.0, 0.0]),
        fresh=np.ones(3, bool),
        classes=("a", "b", "c"),
    )
    shadow, rows = replay(several, ())
    assert (shadow.flipped, shadow.risen, shadow.labelled, shadow.challenger_right) == (2, None, 2, 1)
    assert [(one.row, one.kind, one.right, round(one.distance, 3)) for one in rows] == [
        (0, DisagreementKind.FLIP, Right.CHALLENGER, 0.6),
        (1, DisagreementKind.FLIP, Right.NEITHER, 0.6),
        # The class stays: its probability moved by a tenth.
        (2, DisagreementKind.SCORE, Right.ALIKE, 0.1),
    ]
    assert rows[1].reason == "a (0.7) becomes b (0.8); the label says c: neither was right"


def test_a_regression_flips_nothing_and_counts_who_was_nearer():
    values = replace(
        BINARY,
        task="regression",
        champion=np.array([10.0, 10.0, 10.0, 10.0, 10.0, 10.0]),
        challenger=np.array([11.0, 14.0, 10.0, NAN, 12.0, 10.0]),
        labels=np.array([12.0, 10.0, 9.0, 1.0, 12.0, NAN]),
        classes=(),
    )
    shadow, rows = replay(values, [("where", np.full(6, "x"))])
    assert (shadow.flipped, shadow.flip_share, shadow.silent, shadow.places) == (None, None, 1, ())
    assert shadow.moved == pytest.approx((1 + 4 + 0 + 2 + 0) / 5)
    # Row 0 the challenger, rows 1 and 3 the champion, row 2 both alike; row 4 was learnt from.
    assert (shadow.labelled, shadow.challenger_right, shadow.champion_right) == (4, 1, 2)
    assert [one.row for one in rows] == [3, 1, 4, 0]
    assert shadow.words().startswith("on 6 logged rows since 1970-01-01T00:00:00+00:00 its answers are 1.4 from")


def test_a_segment_is_named_where_more_flips_than_its_share_lets_expect():
    changed = np.zeros(1_000, bool)
    changed[:60] = True  # 60 of the 200 of web
    changed[200:240] = True  # 40 of the 800 others
    where = np.where(np.arange(1_000) < 200, "web", "shop")
    even = np.where(np.arange(1_000) % 2 == 0, "odd", "even")
    assert places(changed, [("channel", where), ("parity", even)]) == ("channel=web (60 of 200 rows)",)


def test_of_segments_without_a_difference_hardly_a_run_names_one():
    rng = np.random.default_rng(1)
    for rows, share in ((5, 0.02), (10, 0.005), (20, 0.01), (50, 0.01), (1_000, 0.05)):
        groups = [("x", np.repeat(np.array([f"s{one}" for one in range(100)]), rows))]
        named = sum(bool(places(rng.random(100 * rows) < share, groups)) for _ in range(30))
        # Of 30 runs at most 0.3 are to be expected; three or more then come in fewer than one of 270 seeds.
        assert named <= 2, (rows, share)
    alone = np.arange(1_000) < 50
    assert places(alone, [("id", np.array([f"id{one}" for one in range(1_000)]))]) == ()
    # Four of four are four events, however rare flips are elsewhere.
    assert places(alone, [("id", np.array([f"id{one // 4}" for one in range(1_000)]))]) == ()


def test_the_chance_of_a_count_is_exact_by_hand():
    assert tail(2, 3, 0.5) == pytest.approx(0.5)
    assert tail(5, 5, 0.1) == pytest.approx(1e-5)
    # 1 - .9**10, and .1 * 10 = 1 of them expected.
    assert tail(2, 10, 0.1) == pytest.approx(1 - 0.9**10 - 10 * 0.1 * 0.9**9)


def test_a_segment_whose_value_is_a_document_is_named_by_its_beginning():
    changed = np.arange(1_000) < 60
    named = places(changed, [("note", np.where(np.arange(1_000) < 200, "a" * 5_000, "b"))])
    assert named == (f"note={'a' * 59}… (60 of 200 rows)",)


def test_of_many_disagreements_the_first_hundred_are_kept_in_one_order():
    n = 3 * MOST_ROWS
    many = replace(
        BINARY,
        times=np.arange(n, dtype=np.int64),
        champion=np.full(n, 0.9),
        challenger=np.full(n, 0.1),
        labels=np.full(n, NAN),
        fresh=np.ones(n, bool),
    )
    shadow, rows = replay(many, ())
    assert (shadow.flipped, [one.row for one in rows]) == (n, list(range(MOST_ROWS)))
