"""What people write of earlier reports is read and checked."""

from __future__ import annotations

import pytest
import yaml

from rarl.errors import RarlError
from rarl.reporting.choices import read_errata
from rarl.reporting.registry import ERRATA as NAME

ENTRY = {"why": "The other arm was harmed.", "before": {"C1": {"was": "supported", "number": "19 points"}}}


def test_they_are_read(tmp_path):
    (tmp_path / NAME).write_text(yaml.safe_dump([ENTRY, ENTRY | {"why": "More."}]))
    assert [entry.why for entry in read_errata(tmp_path / NAME)] == ["The other arm was harmed.", "More."]


def test_without_a_file_there_are_none(tmp_path):
    assert read_errata(tmp_path / NAME) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("why: one", "list"),
        ("- why: one", "entry 1: key 'before' is missing"),
        ("- {why: one, before: {C1: {was: 3, number: two}}}", "entry 1: before.C1.was: "),
        ("- [", "not valid YAML"),
    ],
)
def test_a_fault_in_the_file_is_told(tmp_path, content, told):
    (tmp_path / NAME).write_text(content)
    with pytest.raises(RarlError, match=told) as error:
        read_errata(tmp_path / NAME)
    assert NAME in str(error.value)


def test_the_published_file_can_be_read(request):
    for path in request.config.rootpath.glob(f"results/*/{NAME}"):
        assert read_errata(path)
