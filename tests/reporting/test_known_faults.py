"""What is known to be wrong stands at the top of the report."""

from __future__ import annotations

import pytest
import yaml

from rarl.errors import RarlError
from rarl.reporting.choices import KNOWN_FAULTS as NAME
from rarl.reporting.choices import KnownFault, read_entries

ENTRY = {"shown": "Retrieval gains 19 points", "wrong": "It does not: the other arm was harmed."}


def test_they_are_read(tmp_path):
    (tmp_path / NAME).write_text(yaml.safe_dump([ENTRY, ENTRY | {"shown": "More"}]))
    assert [entry.shown for entry in read_entries(tmp_path / NAME, KnownFault)] == ["Retrieval gains 19 points", "More"]


def test_without_a_file_there_are_none(tmp_path):
    assert read_entries(tmp_path / NAME, KnownFault) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("shown: one", "list"),
        ("- shown: one", "entry 1: key 'wrong' is missing"),
        ("- {shown: one, wrong: 3}", "entry 1: wrong: "),
        ("- [", "not valid YAML"),
    ],
)
def test_a_fault_in_the_file_is_told(tmp_path, content, told):
    (tmp_path / NAME).write_text(content)
    with pytest.raises(RarlError, match=told) as error:
        read_entries(tmp_path / NAME, KnownFault)
    assert NAME in str(error.value)


def test_the_published_file_can_be_read(request):
    for path in request.config.rootpath.glob(f"results/*/{NAME}"):
        assert read_entries(path, KnownFault)
