"""What is known to be wrong stands at the top of the report."""

from __future__ import annotations

import pytest
import yaml

from rarl.errors import RarlError
from rarl.reporting.known_faults import NAME, fault_table, read_known_faults

ENTRY = {"shown": "Retrieval gains 19 points", "wrong": "It does not: the other arm was harmed."}


def test_they_become_a_table(tmp_path):
    (tmp_path / NAME).write_text(yaml.safe_dump([ENTRY, ENTRY | {"shown": "More"}]))
    entries = read_known_faults(tmp_path)
    table = fault_table(entries)
    assert [entry["shown"] for entry in entries] == ["Retrieval gains 19 points", "More"]
    assert "It does not: the other arm was harmed." in table


def test_without_a_file_there_are_none(tmp_path):
    assert read_known_faults(tmp_path) == []
    assert fault_table([]) == ""


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("shown: one", "must be a list"),
        ("- shown: one", "entry 0: needs the texts shown and wrong"),
        ("- {shown: one, wrong: 3}", "entry 0: needs"),
        ("- [", "not valid YAML"),
    ],
)
def test_a_fault_in_the_file_is_told(tmp_path, content, told):
    (tmp_path / NAME).write_text(content)
    with pytest.raises(RarlError, match=told) as error:
        read_known_faults(tmp_path)
    assert NAME in str(error.value)


def test_the_published_file_can_be_read(request):
    for path in request.config.rootpath.glob(f"results/*/{NAME}"):
        assert read_known_faults(path.parent)
