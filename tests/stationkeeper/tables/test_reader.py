import gzip
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import zstandard
from typer.testing import CliRunner

from stationkeeper.commands.profile import profile
from stationkeeper.events import ValueRules
from stationkeeper.monitor.core.reference import load
from stationkeeper.profiling.from_table import profile_table
from stationkeeper.tables import ColumnReading, InputTable, Parts, TableRefused, read_frame, read_table, text_file

INPUTS = Path(__file__).parent / "inputs"
TIME = Parts(time="time")
APP = typer.Typer()
APP.command()(profile)
MAY_1 = 1_777_593_600_000


def column(table: InputTable, name: str) -> ColumnReading:
    return next(reading for reading in table.readings if reading.name == name)


def written(tmp_path: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(cell: str, n: int = 20) -> str:
    return "a,b\n" + "".join(f"{cell},{i}\n" for i in range(n))


def test_a_word_for_nothing_is_a_value_of_a_category_until_somebody_says_otherwise() -> None:
    plain = read_table(INPUTS / "country_na.csv", parts=TIME)
    assert "NA" in plain.columns["country"].tolist()
    assert "--na NA" in column(plain, "country").line()
    told = read_table(INPUTS / "country_na.csv", ValueRules(na=("", "NA")), TIME)
    assert None in told.columns["country"].tolist()
    assert "NA" not in told.columns["country"].tolist()


def test_all_words_for_nothing_and_the_first_unusable_texts_are_named_at_once(tmp_path: Path) -> None:
    data = pl.DataFrame(
        {"c": ["a", "b", "NA", "None"] * 9, "x": [*map(str, range(30)), "no", "no", "off", "7", "9", "8"]}
    )
    data.write_csv(tmp_path / "t.csv")
    found = read_table(tmp_path / "t.csv")
    assert "'NA', 'None' count as values; if they mean none: --na NA,None" in column(found, "c").line()
    assert column(found, "x").line().endswith("3 unusable, e.g. 'no' in row 31, 'off' in row 33")
    told = read_table(tmp_path / "t.csv", ValueRules(na=("", "NA", "None")))
    assert column(told, "c").missing == 18


def test_a_word_for_nothing_among_numbers_is_missing(tmp_path: Path) -> None:
    found = column(read_table(written(tmp_path, rows("1.5") + "NA,1\n?,1\n,1\nNone,2\n")), "a")
    assert (found.kind, found.missing, found.unusable) == ("number", 4, 0)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "ndjson"])
@pytest.mark.parametrize("truths", [("0", "1"), ("False", "True")])
def test_a_word_for_nothing_among_labels_is_missing_in_every_kind_of_file(
    tmp_path: Path, suffix: str, truths: tuple[str, str]
) -> None:
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0, 4.0] * 9, "label": [*truths, "NA", "?"] * 9})
    getattr(frame, f"write_{suffix}")(tmp_path / "t")
    found = read_table(tmp_path / "t", parts=Parts(label="label"))
    assert column(found, "label").missing == 18
    assert found.used()["label"].null_count() == 18


def test_a_word_for_nothing_among_named_classes_is_a_class(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1.0] * 40, "label": ["fraud", "none"] * 20}).write_parquet(tmp_path / "t")
    assert column(read_table(tmp_path / "t", parts=Parts(label="label")), "label").missing == 0


def test_a_trainer_is_given_what_can_be_used_in_order_of_time(tmp_path: Path) -> None:
    text = "id,when,amount,ok,zip\n" + "".join(
        f"row {i} of prose,{1_700_000_000 + 60 * (200 - i)},{'error' if i == 7 else i},{bool(i % 2)},0123{i % 3}\n"
        for i in range(200)
    )
    used = read_table(written(tmp_path, text), parts=Parts(time="when", label="ok")).used()
    assert used.columns == ["when", "amount", "ok", "zip"]
    assert used["when"].is_sorted()
    assert used["when"][-1] == 1_700_012_000_000
    assert used["amount"].null_count() == 1
    assert used["zip"][0] == "01231"


def test_headers_of_files_that_were_put_together_are_no_rows(tmp_path: Path) -> None:
    text = "time,kind,x\n" + "".join(f"2026-05-01T00:00:{i:02d}Z,{'ab'[i % 2]},{i}\n" for i in range(30))
    found = read_table(written(tmp_path, text * 3), parts=TIME)
    assert len(found) == 90
    assert column(found, "kind").different == 2
    assert column(found, "x").unusable == 0
    assert found.notes == ("left out: 2 rows that repeat the header (the first is row 31)",)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "workbook of old Excel"),
        (b"PK\x03\x04" + bytes(30), "workbook"),
        (b"Obj\x01\x04" + bytes(300), "Avro"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 5\n", "git lfs pull"),
    ],
)
def test_what_is_no_table_is_called_what_it_is(tmp_path: Path, data: bytes, word: str) -> None:
    for packed in (data, gzip.compress(data)):
        with pytest.raises(TableRefused, match=word):
            read_table(written(tmp_path, packed))


def test_one_cell_of_text_leaves_a_number_a_number_and_is_named(tmp_path: Path) -> None:
    found = column(read_table(written(tmp_path, rows("1.5") + "error,1\n")), "a")
    assert (found.kind, found.unusable, found.example) == ("number", 1, "'error' in row 21")


@pytest.mark.parametrize(
    ("name", "feature", "mark", "first"),
    [
        ("currency.csv", "amount", ".", 107.69),
        ("currency.csv", "rate", ".", 0.149),
        ("decimal_comma.csv", "amount", ",", 107.69),
    ],
)
def test_numbers_as_people_write_them_are_left_out_by_name_until_the_mark_is_told(
    name: str, feature: str, mark: Any, first: float
) -> None:
    found = read_table(INPUTS / name, parts=TIME)
    assert feature not in found.columns
    assert f"--decimal {mark}" in column(found, feature).line()
    assert read_table(INPUTS / name, ValueRules(decimal=mark), TIME).columns[feature][0] == pytest.approx(first)


def test_a_part_that_cannot_be_read_is_refused_with_what_to_say() -> None:
    with pytest.raises(TableRefused, match=r"--prediction score: numbers written as text .*--decimal ,"):
        read_table(INPUTS / "decimal_comma.csv", parts=Parts(time="time", prediction="score"))


def test_frames_of_zstd_are_each_copied_once_or_twice_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    real, given = zstandard.ZstdDecompressor, []

    class Counted:
        def __init__(self) -> None:
            self._frame = real().decompressobj()

        def decompressobj(self) -> Any:
            return self

        def decompress(self, data: bytes) -> bytes:
            given.append(len(data))
            return self._frame.decompress(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._frame, name)

    frames = [zstandard.compress(random.Random(seed).randbytes(9_000)) for seed in range(200)]
    monkeypatch.setattr(zstandard, "ZstdDecompressor", Counted)
    assert len(text_file.unpacked(b"".join(frames), "t.zst")) == 200 * 9_000
    assert sum(given) < 4 * sum(map(len, frames))


def test_a_packed_file_that_is_damaged_or_cut_off_is_refused_and_several_frames_are_one_file(tmp_path: Path) -> None:
    parts = [b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i % 9973) for i in range(200_000)), b"7,7\n" * 50]
    zst = [zstandard.compress(one) for one in parts]
    assert len(read_table(written(tmp_path, b"".join(zst), "t.csv.zst"))) == 200_050
    with pytest.raises(TableRefused, match="cannot be unpacked: it is cut off"):
        read_table(written(tmp_path, zst[0][: len(zst[0]) // 2], "t.csv.zst"))
    # What pads a block or ends a line is no frame; what begins like one and stops is cut off.
    for padding in (b"\0" * 512, b"\n", b"\r\n"):
        assert len(read_table(written(tmp_path, b"".join(zst) + padding, "t.csv.zst"))) == 200_050
    for head in (zst[1][:1], zst[1][:9], zst[1][:-1]):
        with pytest.raises(TableRefused, match="cannot be unpacked: it is cut off"):
            read_table(written(tmp_path, zst[0] + head, "t.csv.zst"))
    broken = bytearray(gzip.compress(parts[0]))
    broken[len(broken) // 2] ^= 0xFF
    with pytest.raises(TableRefused, match="cannot be unpacked"):
        read_table(written(tmp_path, bytes(broken), "t.csv.gz"))


def test_a_time_without_any_moment_is_refused_by_its_name() -> None:
    with pytest.raises(TableRefused, match="--time t in the frame: no row has a time there"):
        read_frame(pl.DataFrame({"t": [float("nan")] * 3, "a": [1.0, 2.0, 3.0]}), parts=Parts(time="t"))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_unit_of_an_epoch_is_found_out_and_said(tmp_path: Path, unit: str) -> None:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    text = "time,x\n" + "".join(f"{(MAY_1 // 1000 + i) * per_second},{i % 7}\n" for i in range(50))
    table = read_table(written(tmp_path, text), parts=TIME)
    assert table.times is not None
    assert table.times[:2].tolist() == [MAY_1, MAY_1 + 1000]
    assert f"epoch {unit}" in next(table.lines())


def test_a_number_that_is_no_epoch_is_refused_and_a_told_unit_obeyed(tmp_path: Path) -> None:
    path = written(tmp_path, "time,x\n" + "".join(f"{i * 60_000},{i % 7}\n" for i in range(50)))
    with pytest.raises(TableRefused, match="--time-unit"):
        read_table(path, parts=TIME)
    times = read_table(path, ValueRules(time_unit="ms"), TIME).times
    assert times is not None
    assert times[1] == 60_000


def test_month_and_day_are_told_by_the_table_or_asked_for(tmp_path: Path) -> None:
    table = read_table(INPUTS / "us24.csv", parts=TIME)
    assert table.times is not None
    assert table.times[-1] - table.times[0] < 5 * 86_400_000
    assert "month first" in next(table.lines())
    one = "time,x\n" + "".join(f"05/0{1 + i % 3}/2026,{i}\n" for i in range(6))
    months = "time,x\n" + "".join(f"0{1 + i}/0{1 + i}/2026,{i}\n" for i in range(6))
    assert "month first" in next(read_table(written(tmp_path, one), parts=TIME).lines())
    with pytest.raises(TableRefused, match="--time-format '%m/%d/%Y' or --time-format '%d/%m/%Y'"):
        read_table(written(tmp_path, months), parts=TIME)
    told = read_table(written(tmp_path, months), ValueRules(time_format="%d/%m/%Y"), TIME)
    assert told.times is not None
    assert np.datetime64(int(told.times[1]), "ms") == np.datetime64("2026-02-02")


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("2026-05-01T02:00:00+02:00", "2026-05-01T00:00:00"),
        ("2026-05-01 00:00:00.250", "2026-05-01T00:00:00.250"),
        ("2026-05-01", "2026-05-01T00:00:00"),
        ("2026/5/1 7:05", "2026-05-01T07:05:00"),
        ("1.5.2026 7:05:09", "2026-05-01T07:05:09"),
        ("05/31/2026 12:30 AM", "2026-05-31T00:30:00"),
        ("31-05-26 1:30 PM", "2026-05-31T13:30:00"),
        ("14-Mar-2026", "2026-03-14T00:00:00"),
        ("14-MAR-26 01.30", None),
        ('"Sat, 14 Mar 2026 10:00:00 +0100"', "2026-03-14T09:00:00"),
        ("14/Mar/2026:10:00:00 +0000", "2026-03-14T10:00:00"),
        ('"March 14, 2026 1:30 PM"', "2026-03-14T13:30:00"),
        ("14-Nay-2026", None),
    ],
)
def test_times_are_read_as_they_are_written(tmp_path: Path, cell: str, shown: str | None) -> None:
    path = written(tmp_path, f"time,x\n{cell},1\n{cell},2\n")
    if shown is None:
        with pytest.raises(TableRefused, match=rf"text, e\.g\. {cell!r} is no time that is known; how is it written"):
            read_table(path, parts=TIME)
        return
    times = read_table(path, parts=TIME).times
    assert times is not None
    assert np.datetime64(int(times[0]), "ms") == np.datetime64(shown)


def test_a_told_unit_that_the_numbers_contradict_is_obeyed_and_both_readings_said(tmp_path: Path) -> None:
    path = written(tmp_path, "time,x\n" + "".join(f"{MAY_1 // 1_000 + 60 * i},{i}\n" for i in range(30)))
    assert read_table(path, parts=TIME).notes == ()
    said = (
        "time begins on 1970-01-21 as epoch ms, as you say; the numbers look like s, which would be 2026-05-01: "
        "--time-unit s"
    )
    assert read_table(path, ValueRules(time_unit="ms"), TIME).notes == (said,)


def test_a_told_unit_in_which_there_are_no_times_is_refused_with_the_one_they_look_like(tmp_path: Path) -> None:
    path = written(tmp_path, "time,x\n" + "".join(f"{MAY_1 + 60_000 * i},{i}\n" for i in range(30)))
    with pytest.raises(TableRefused, match=r"begins on no year up to 9999 as epoch s.*look like ms.*--time-unit ms"):
        read_table(path, ValueRules(time_unit="s"), TIME)


def test_codes_that_begin_like_a_month_are_a_category_and_old_dates_are_dates(tmp_path: Path) -> None:
    text = "sku,name,born,x\n" + "".join(
        f"{'DEC-12-10' if i == 3 else f'XQZ-{10 + i % 9}-{i % 5}'},Mark {i % 9} 10,19{30 + i % 30}-05-01,{i}\n"
        for i in range(200)
    )
    table = read_table(written(tmp_path, text))
    assert [column(table, name).kind for name in ("sku", "name", "born")] == ["text", "text", "time"]
    assert {"sku", "name"} <= set(table.columns)
    with pytest.raises(TableRefused, match="before 1970 is none"):
        read_table(written(tmp_path, text), parts=Parts(time="born"))


def test_a_damaged_file_is_refused_and_not_read_in_part(tmp_path: Path) -> None:
    pl.DataFrame({"x": [i / 7 for i in range(2_000)], "y": range(2_000)}).write_parquet(tmp_path / "t")
    whole = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(whole[:4] + bytes(200) + whole[204:])
    with pytest.raises(TableRefused, match="cannot be read as a table"):
        read_table(tmp_path / "t")


def test_a_feature_that_could_be_the_time_is_said_to_be(tmp_path: Path) -> None:
    text = "when,account,x\n" + "".join(f"{MAY_1 + 60_000 * i},{123_456_789 + i},{i}\n" for i in range(30))
    found = read_table(written(tmp_path, text))
    assert "if it is the time: --time when" in column(found, "when").line()
    assert "--time" not in column(found, "account").line() + column(found, "x").line()


def test_rows_without_time_are_left_out_aloud_or_refused(tmp_path: Path) -> None:
    good = "".join(f"2026-05-01T00:{i:02}:00Z,{i % 7}\n" for i in range(60))
    table = read_table(written(tmp_path, f"time,x\nsoon,1\n{good}"), parts=TIME)
    assert len(table) == 60
    assert "1 of 61 rows have no usable time in time (the first is row 1)" in next(table.lines())
    with pytest.raises(TableRefused, match=r"text, e\.g\. 'soon' is no time that is known; how is it written"):
        read_table(written(tmp_path, "time,x\nsoon,1\nlater,2\n"), parts=TIME)


def test_leading_zeros_make_a_column_text_and_so_does_a_person(tmp_path: Path) -> None:
    assert "09111" in read_table(INPUTS / "zip.csv", parts=TIME).columns["zip"].tolist()
    path = written(tmp_path, rows("80331"))
    assert read_table(path).columns["a"][0] == 80331.0
    assert read_table(path, ValueRules(text=("a",))).columns["a"][0] == "80331"


@pytest.mark.parametrize("spelling", [("True", "False"), ("true", "false"), ("TRUE", "FALSE")])
def test_truths_are_booleans(tmp_path: Path, spelling: tuple[str, str]) -> None:
    table = read_table(written(tmp_path, "a,b\n" + "".join(f"{spelling[i % 2]},{i}\n" for i in range(9))))
    assert table.columns["a"].tolist()[:2] == [True, False]
    assert table.untyped == ("a",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_character_sets_are_found_out(tmp_path: Path, encoding: str) -> None:
    text = "größe,stadt\n" + "1.5,Köln\n2.5,Zürich\n" * 20
    table = read_table(written(tmp_path, text.encode(encoding)))
    assert set(table.columns["stadt"].tolist()) == {"Köln", "Zürich"}
    assert table.columns["größe"][1] == 2.5
    assert (not encoding.startswith("utf-8")) == any("encoding" in line for line in table.lines())


def test_a_told_character_set_is_obeyed_and_a_wrong_one_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "a,b\nŁódź,1\nŻary,2\n".encode("cp1250"))
    assert read_table(path, ValueRules(encoding="cp1250")).columns["a"][0] == "Łódź"
    for wrong in ("utf-8", "klingon"):
        with pytest.raises(TableRefused, match="encoding"):
            read_table(path, ValueRules(encoding=wrong))


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_separators_quotes_and_line_ends(tmp_path: Path, mark: str) -> None:
    text = f'"a{mark} b"{mark}c\r\n"x{mark} ""y""\nz"{mark}1.5\r\n\r\n"w"{mark}2\r\n'
    table = read_table(written(tmp_path, text))
    assert table.columns[f"a{mark} b"].tolist() == [f'x{mark} "y"\nz', "w"]
    assert table.columns["c"].tolist() == [1.5, 2.0]


def test_excels_first_line_inches_and_an_odd_name(tmp_path: Path) -> None:
    assert read_table(written(tmp_path, "sep=;\na;b\n1,5;2\n")).columns["b"][0] == 2.0
    inches = read_table(written(tmp_path, 'size,x\n15" wide,1\n3,2\n'))
    assert inches.columns["size"].tolist() == ['15" wide', "3"]
    table = read_table(INPUTS / "excel_header.csv", parts=TIME)
    assert "income\n(EUR)" in table.columns
    assert all("\n" not in line for line in table.lines())


def test_rows_of_another_width_are_left_out_aloud_or_the_file_is_refused(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, rows("1.5", 60) + "1.5\n1.5,2,3\n1.5,7,,\n"))
    assert len(table) == 61
    assert "2 rows have not the header's 2 fields" in next(table.lines())
    with pytest.raises(TableRefused, match="is ',' the separator"):
        read_table(written(tmp_path, "a,b\n1,2,3\n4,5,6\n"))


def test_an_index_of_pandas_and_a_name_that_stands_twice_are_left_out_by_name(tmp_path: Path) -> None:
    head, body = ",a,b,a\n", "".join(f"{i},1.5,{i % 3},2\n" for i in range(9))
    table = read_table(written(tmp_path, head + body))
    assert list(table.columns) == ["b"]
    lines = "\n".join(table.lines())
    assert "column 1: left out: has no name and counts the rows" in lines
    assert "a: left out: stands twice, as columns 2 and 4" in lines
    with pytest.raises(TableRefused, match="stands twice"):
        read_table(written(tmp_path, head + body), parts=Parts(label="a"))


def test_what_no_number_holds_and_what_is_no_category_is_left_out_until_asked_for(tmp_path: Path) -> None:
    text = "id,prose,x\n" + "".join(f"{10**18 + i},text {i} of it,{i % 5}\n" for i in range(200))
    assert list(read_table(written(tmp_path, text), ValueRules(decimal=",")).columns) == ["x"]
    table = read_table(written(tmp_path, text))
    assert list(table.columns) == ["x"]
    assert "--text id" in column(table, "id").line()
    asked = read_table(written(tmp_path, text), parts=Parts(features=("prose", "x")))
    assert "prose" in asked.columns


def test_every_type_of_parquet_is_a_value_or_left_out_by_name() -> None:
    table = read_table(INPUTS / "types.parquet", parts=TIME)
    used = {"amount", "dec", "cat", "enum", "bool", "i_null", "f32", "score", "label"}
    assert set(table.columns) == used
    assert column(table, "dec").kind == "number"
    left = {reading.name: reading.blind for reading in table.readings if reading.name not in {*used, "time"}}
    assert set(left) == {"day", "tod", "dur", "lst", "arr", "st", "bin", "nullcol", "u64"}
    assert all(left.values())
    assert read_table(INPUTS / "pq_dec.parquet", parts=TIME).columns["dec"][0] == pytest.approx(107.69)


def test_a_column_of_a_type_that_cannot_be_read_hurts_only_itself(tmp_path: Path) -> None:
    wide = pa.array([Decimal(12345) / 100, Decimal(1) / 100], pa.decimal256(50, 2))
    pq.write_table(pa.table({"x": [1.0, 2.0], "wide": wide}), tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet")
    assert list(found.columns) == ["x"]
    assert column(found, "wide").line().startswith("wide: left out: cannot be read: precision")
    with pytest.raises(TableRefused, match="--label wide: cannot be read"):
        read_table(tmp_path / "t.parquet", parts=Parts(label="wide"))
    pq.write_table(pa.table({"wide": wide}), tmp_path / "t.parquet")
    with pytest.raises(TableRefused, match="cannot be read as a table"):
        read_table(tmp_path / "t.parquet")


def test_the_content_says_what_a_file_is(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [1.5, None], "b": ["x", "y"]})
    frame.write_parquet(tmp_path / "t.PARQUET")
    frame.write_ipc(tmp_path / "t.feather")
    packed = written(tmp_path, gzip.compress(b"a,b\n1.5,x\n,y\n"), "t.csv.gz")
    for path in (tmp_path / "t.PARQUET", tmp_path / "t.feather", packed):
        table = read_table(path)
        assert table.columns["b"].tolist() == ["x", "y"]
        assert np.isnan(table.columns["a"][1])
    with pytest.raises(TableRefused, match="workbook"):
        read_table(written(tmp_path, b"PK\x03\x04 and so on", "t.xlsx"))


def test_flat_json_lines_are_a_table_and_a_line_separator_is_a_letter(tmp_path: Path) -> None:
    odd = [{"a": 1, "b": "x\u2028y", "c": {"d": 1}}, {"a": "error", "b": None, "c": {}}, {"a": 2.5, "b": "z"}]
    more = [{"a": 1.0, "b": "z"}] * 20
    lines = "\n".join(json.dumps(one, ensure_ascii=False) for one in [*odd, *more])
    table = read_table(written(tmp_path, lines + "\n", "t.jsonl"))
    assert table.columns["b"].tolist()[:2] == ["x\u2028y", None]
    assert column(table, "a").example == "'error' in row 2"
    assert column(table, "c").blind == "holds objects"


@pytest.mark.parametrize("broken", [b'{"a": 1,', b"[1, 2]"])
def test_a_few_broken_lines_are_left_out_counted_and_shown(tmp_path: Path, broken: bytes) -> None:
    flat = [json.dumps({"a": n + 0.5}).encode() for n in range(30)]
    event = {"kind": "prediction", "model": "m", "version": "1", "prediction": 0.5, "features": {"a": 1.5}}
    events = [json.dumps({**event, "event_id": f"e{n}", "time": 1_777_640_000_000 + n}).encode() for n in range(30)]
    for lines in (flat, events):
        table = read_table(written(tmp_path, b"\n".join([*lines[:7], broken, *lines[7:]]), "t.jsonl"))
        assert len(table) == 30
        assert table.index.tolist() == [*range(7), *range(8, 31)]
        assert table.notes[0].startswith("left out: 1 of 31 lines; the first is line 8: ")
        with pytest.raises(TableRefused, match=r"line 8: .* \(3 of 33 lines are broken\)"):
            read_table(written(tmp_path, b"\n".join([*lines[:7], *[broken] * 3, *lines[7:]]), "t.jsonl"))


def test_events_of_several_models_are_asked_about() -> None:
    with pytest.raises(TableRefused, match="models m, n: say which with --model"):
        read_table(INPUTS / "twomodels.jsonl")
    table = read_table(INPUTS / "twomodels.jsonl", model="n")
    assert (table.model, table.version, len(table)) == ("n", "2", 100)
    assert set(table.columns["c"].tolist()) == {"b"}


@pytest.mark.parametrize(
    "data",
    [b"", b"\n\n", b"a\n", b"PAR1xx", b"[]", b"[1]", b'{"a":', b"\x1f\x8bxx", b'"a\nb', b",\n1,2\n", b"a,b\n\0,1\n"],
)
def test_what_is_no_table_is_refused_by_its_name(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(TableRefused, match=r"t\.csv"):
        read_table(written(tmp_path, data))


def test_infinities_and_names_as_long_as_a_file_are_read(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, f"a,{'x' * 200_000}\n" + "1e400,2\n" * 3))
    assert np.isinf(table.columns["a"]).all()
    assert max(map(len, table.lines())) < 200


def test_a_first_line_of_numbers_is_no_header(tmp_path: Path) -> None:
    with pytest.raises(TableRefused, match="looks like data"):
        read_table(written(tmp_path, "1,2.5\n3,4\n"))


def test_frames_are_read_as_files_are() -> None:
    import pandas as pd

    data = {"n": [1.5, None] * 60, "t": ["NA", "x"] * 60, "d": pd.array([1, None] * 60, "Int64"), "o": [1, "e"] * 60}
    for frame in (pd.DataFrame(data), {name: np.array(values, object) for name, values in data.items()}):
        table = read_frame(frame, ValueRules(na=("", "NA")))
        assert table.columns["t"].tolist()[:2] == [None, "x"]
        assert column(table, "n").missing == column(table, "d").missing == 60
        assert column(table, "o").kind == "mixed"


def test_every_column_has_one_line_and_those_left_out_by_the_reference_say_so() -> None:
    table = read_table(INPUTS / "types.parquet", parts=Parts(time="time", prediction="score", label="label"))
    reference, lines = profile_table(table)
    names = [line.split(":")[0] for line in lines]
    assert names == [reading.name for reading in table.readings]
    watched = {subject.name for subject in reference.features}
    assert watched == {line.split(":")[0] for line in lines if line.split(": ")[1].startswith("used")}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("country_na.csv", ["--label", "label"]),
        ("currency.csv", ["--decimal", "."]),
        ("decimal_comma.csv", ["--decimal", ",", "--label", "label"]),
        ("epoch_us.csv", []),
        ("excel_header.csv", []),
        ("label_good.csv", ["--label", "label"]),
        ("label_good.csv", ["--label", "label", "--positive", "fraud"]),
        ("pq_dec.parquet", ["--label", "label"]),
        ("types.parquet", ["--label", "label"]),
        ("us24.csv", []),
        ("zip.csv", ["--text", "zip"]),
    ],
)
def test_profile_takes_every_file_and_says_a_line_for_each_column(
    tmp_path: Path, name: str, options: list[str]
) -> None:
    out = tmp_path / "r.json"
    run = CliRunner().invoke(
        APP, [str(INPUTS / name), "--time", "time", "--prediction", "score", *options, "-o", str(out)]
    )
    assert run.exit_code == 0, run.output
    made = load(out.read_bytes())
    assert made.first is not None
    assert made.first // 86_400_000 in {20_573, 20_574}
    assert made.positive == ("fraud" if name == "label_good.csv" else "true" if name.endswith("parquet") else "1")
    lines = [line for line in run.stderr.splitlines() if line.startswith("  ")]
    assert len(lines) == len(read_table(INPUTS / name).readings)
    assert all(line.isprintable() for line in run.output.splitlines())
    assert not [line for line in run.output.splitlines() if line.startswith("(EUR)")]
