"""The list of authors: whole, filled where the table allows it, and honest about what is left."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from edge_tta.errors import DataError
from edge_tta.train.attributions import attributions, main

ROOT = Path(__file__).resolve().parents[2]
TABLE = """id,file,label,licence,attribution,url,licence_evidence,repo,commit,path_in_repo,split
a,a.wav,rain,CC0-1.0,,https://freesound.org/people/some_one/sounds/1/,,,,,train
b,b.wav,rain,CC-BY-3.0,Ann,I made it,x/y@12:authors.txt:3,x/y,1234,in a/b.ogg,train
c,c.wav,rain,CC-BY-4.0,,https://example.org/c,,,,,train
d,d.wav,rain,CC-BY-4.0,Dan,https://example.org/d,,,,,val
e,e.wav,rain,CC-BY-NC-4.0,Eve,https://example.org/e,,,,,train
"""


def test_gaps_are_filled_from_where_a_clip_was_found(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text(TABLE)
    text, lacking = attributions(tmp_path)
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(text))}
    assert list(rows) == ["a", "b", "c"]
    assert rows["a"]["attribution"] == "some_one"
    assert rows["b"]["url"] == "https://github.com/x/y/blob/1234/in%20a/b.ogg"
    assert rows["b"]["evidence"] == "x/y@12:authors.txt:3"
    assert lacking == ["c (CC-BY-4.0): no attribution"]
    assert len(attributions(tmp_path, permissive_only=False)[0].splitlines()) == 5


def test_an_address_of_a_licence_that_asks_for_no_author_is_known(tmp_path: Path) -> None:
    address = "https://creativecommons.org/publicdomain/zero/1.0/"
    (tmp_path / "metadata.csv").write_text(f"id,file,label,licence\na,a.wav,rain,{address}\n")
    assert attributions(tmp_path)[1] == []


def test_the_command_writes_the_list_and_tells_what_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="No such file"):
        attributions(tmp_path)
    assert main([str(tmp_path), "-o", str(tmp_path / "list.csv")]) != 0
    assert "No such file" in capsys.readouterr().err and not (tmp_path / "list.csv").exists()
    (tmp_path / "metadata.csv").write_text(TABLE)
    assert main([str(tmp_path), "-o", str(tmp_path / "list.csv")]) == 0
    assert capsys.readouterr().err == "attributions: c (CC-BY-4.0): no attribution\n"
    assert (tmp_path / "list.csv").read_text() == attributions(tmp_path)[0]
    (tmp_path / "metadata.csv").write_text(TABLE.splitlines()[0] + "\n")
    with pytest.raises(DataError, match="no clip"):
        attributions(tmp_path)


def test_every_clip_of_the_shipped_model_has_an_author_and_a_source() -> None:
    for folder in ("checkpoints/edge-10m", "edge_tta/assets/edge-10m"):
        with (ROOT / folder / "ATTRIBUTIONS.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert len(rows) == 4239
        assert all(row["url"].startswith("http") and row["evidence"] and row["licence"] for row in rows)
        nameless = [row for row in rows if not row["attribution"]]
        assert {row["licence"] for row in nameless} <= {"CC0-1.0", "CC-BY-3.0"}
        # Of one pack, whose page names its author; the repository that has it does not.
        assert {row["url"] for row in nameless if row["licence"] != "CC0-1.0"} == {
            "http://opengameart.org/content/15-monster-gruntpaindeath-sounds"
        }
