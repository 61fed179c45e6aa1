"""Files: what is wrong in one is told with its line, and what cannot be written is told before the work."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from rarl.errors import RarlError
from rarl.files import check_folder_writable, check_writable, read_yaml

MERGED = """
base: &base {x: 1, y: 2}
deep: {er: {still: &again {<<: *base, y: 3}}}
early: {<<: *again, x: 4}
both: {<<: [{z: 1}, *base], z: 5}
"""


def yaml_error(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RarlError) as caught:
        read_yaml(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("seed: 1\nupdates: 2\nseed: 3\n", 3, "key 'seed' stands there twice, first in line 1"),
        ("a:\n  b: {c: 1,\n      c: 1}\n", 3, "key 'c' stands there twice, first in line 2"),
        ("- x: 1\n- y: 1\n  y: 2\n", 3, "key 'y' stands there twice"),
        ("10: a\n10: b\n", 2, "key 10 stands there twice"),
        ("a: &a {x: 1}\nb: {<<: *a,\n  <<: *a}\n", 3, "key '<<' stands there twice"),
        ("a: [\n", 2, "expected"),
        ("a: b: c\n", 1, "not valid YAML"),
        ("a: *nothing\n", 1, "undefined alias"),
        ("a: !!python/object:os.system x\n", 1, "could not determine a constructor"),
    ],
)
def test_a_fault_in_yaml_is_told_with_its_line(tmp_path, text, line, expected):
    message = yaml_error(tmp_path, text)
    assert f", line {line}:" in message, message
    assert expected in message, message


@pytest.mark.parametrize("text", [b"a: \xff\n", "a: 2024-13-45\n", "[" * 20_000], ids=["bytes", "date", "deep"])
def test_what_is_no_yaml_at_all_is_one_line(tmp_path, text):
    assert "not valid YAML" in yaml_error(tmp_path, text)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path, expected in ((tmp_path / "none.yaml", "no such file"), (tmp_path, "cannot be read")):
        with pytest.raises(RarlError, match=expected):
            read_yaml(path)


def test_keys_may_replace_merged_ones(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(MERGED)
    found = read_yaml(path)
    assert found["deep"] == {"er": {"still": {"x": 1, "y": 3}}}
    assert found["early"] == {"x": 4, "y": 3}
    assert found["both"] == {"x": 1, "y": 2, "z": 5}


def test_the_projects_own_files_hold_no_key_twice():
    root = Path(__file__).parents[1]
    listed = subprocess.run(["git", "ls-files", "*.yaml", "*.yml"], cwd=root, capture_output=True, text=True)
    files = listed.stdout.split() or [str(path.relative_to(root)) for path in root.glob("config/**/*.yaml")]
    assert "config/claims.yaml" in files
    for file in files:
        if file != "dvc.lock":
            read_yaml(root / file)


# -------------------------------------------------------------------------------------------------------------- writing


def test_what_can_be_written_is_left_as_it_is(tmp_path):
    (tmp_path / "there").write_text("old")
    check_writable(tmp_path / "there")
    check_writable(tmp_path / "new" / "folder" / "file.csv")
    check_folder_writable(tmp_path / "new" / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "old"


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RarlError, match=r"file/a/b\.csv: cannot be written \(.*file: Not a directory\)"):
        check_writable(tmp_path / "file" / "a" / "b.csv")
    with pytest.raises(RarlError, match="folder: cannot be written: it is a folder"):
        check_writable(tmp_path / "folder")
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "away")
    with pytest.raises(RarlError, match=r"link/a\.csv: cannot be written"):
        check_writable(tmp_path / "link" / "a.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    (tmp_path / "mine").mkdir(mode=0o500)
    with pytest.raises(RarlError, match="Permission denied"):
        check_writable(tmp_path / "mine" / "a.csv")
    assert not list((tmp_path / "mine").iterdir())


def test_a_read_only_file_system_is_named():
    proc = Path("/proc/self")  # none can be written in, not even by root
    if not proc.is_dir():
        pytest.skip("no /proc here")
    with pytest.raises(RarlError, match=r"/proc/self/a\.csv: cannot be written"):
        check_writable(proc / "a.csv")
