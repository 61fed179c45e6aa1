"""Checkpoints: exact, and never trusted when damaged, foreign or unsafe."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import time

import numpy as np
import pytest
import torch

from rarl.errors import RarlError
from rarl.runs import checkpoints
from rarl.runs.checkpoints import Header, load, load_latest, save
from rarl.runs.run_folder import CHECKPOINT as NAME
from rarl.runs.run_folder import sidecar

RUN = Header("toy/seed-0", {"learner": {"lr": 0.001, "width": 8}, "seed": 0}, update=1, code_digest="a" * 12)


def state(number: int = 0) -> dict:
    return {"weights": torch.full((50,), float(number)), "number": number}


@pytest.fixture
def two(tmp_path):
    """A folder with a checkpoint (number 2) and the one before (number 1)."""
    for number in (1, 2):
        save(tmp_path / NAME, state(number), RUN)
    return tmp_path


def same(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray | np.generic):
        return type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and a == b


def test_every_kind_of_state_comes_back_with_its_type(tmp_path):
    random.seed(1)
    full = {
        "tensors": [torch.rand(3), torch.arange(4, dtype=torch.int16), torch.tensor(True)],
        "arrays": {
            "float": np.arange(6.0).reshape(2, 3)[::-1],
            "bool": np.array([True]),
            "uint64": np.array(2**63, "u8"),
        },
        "scalars": (np.float32(0.1), np.int8(-3), 1, 0.1, "ü", None, True, 2**200),
        "pcg": np.random.default_rng(5).bit_generator.state,
        "philox": np.random.Generator(np.random.Philox(5)).bit_generator.state,
        "mt": np.random.Generator(np.random.MT19937(5)).bit_generator.state,
        "python": random.getstate(),
        "by number": {3: {"step": torch.tensor(1.0)}},
    }
    save(tmp_path / NAME, full, RUN)
    loaded = load_latest(tmp_path, expected=RUN)
    assert same(loaded.state, full)
    assert loaded.header == RUN
    generator = np.random.Generator(np.random.Philox(9))
    generator.bit_generator.state = loaded.state["philox"]
    assert generator.random() == np.random.Generator(np.random.Philox(5)).random()


@pytest.mark.parametrize(
    ("bad", "where"),
    [
        ({"a": {"b": [1, object()]}}, r"state\.a\.b\.1: a builtins\.object"),
        ({"rng": np.random.default_rng(0)}, r"state\.rng: a numpy\.random\S*Generator .*bit_generator\.state"),
        ({"a": np.array(["x"])}, r"state\.a: a NumPy array of dtype <U1"),
        ({"a": np.array([None])}, r"state\.a: a NumPy array of dtype object"),
        ({(1, 2): 3}, r"state: the key \(1, 2\)"),
    ],
)
def test_what_cannot_be_restored_is_refused_by_name_and_nothing_is_written(two, bad, where):
    with pytest.raises(RarlError, match=where):
        save(two / NAME, bad, RUN)
    assert load(two / NAME).state["number"] == 2


def test_bytes_depend_on_the_content_only(tmp_path):
    save(tmp_path / "a.pt", state(), RUN)
    save(tmp_path / "another name.pt", state(), RUN)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "another name.pt").read_bytes()


def test_a_view_does_not_drag_its_storage_along(tmp_path):
    save(tmp_path / NAME, {"view": torch.zeros(1_000_000)[:5]}, RUN)
    assert (tmp_path / NAME).stat().st_size < 20_000


def test_sidecar_is_what_sha256sum_checks(two):
    text = sidecar(two / NAME).read_text()
    assert text == f"{hashlib.sha256((two / NAME).read_bytes()).hexdigest()}  {NAME}\n"


def test_the_one_before_is_kept(two):
    assert load(two / NAME).state["number"] == 2
    assert load(two / (NAME + ".previous")).state["number"] == 1


def test_no_checkpoint_at_all_is_none(tmp_path):
    assert load_latest(tmp_path) is None


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[data.find(torch.full((50,), load(path).state["number"], dtype=torch.float32).numpy().tobytes()) + 3] ^= 1
    path.write_bytes(data)


def no_sidecar(path):
    sidecar(path).unlink()


def empty_sidecar(path):
    sidecar(path).write_text("")


def binary_sidecar(path):
    sidecar(path).write_bytes(b"\xff\xfe\x00")


def sidecar_of_another(path):
    other = path.parent / "other"
    save(other / NAME, state(9), RUN)
    shutil.copy(sidecar(other / NAME), sidecar(path))


def remove(path):
    path.unlink()


DAMAGES = [truncate, empty, zero, flip_a_bit, no_sidecar, empty_sidecar, binary_sidecar, sidecar_of_another, remove]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(two, damage, caplog):
    damage(two / NAME)
    with pytest.raises(RarlError, match=NAME):
        load(two / NAME)
    loaded = load_latest(two, expected=RUN)
    assert loaded.state["number"] == 1
    assert NAME in caplog.text
    assert "going on from checkpoint.pt.previous (update 1)" in caplog.text


@pytest.mark.parametrize("damage", DAMAGES)
def test_after_falling_back_saving_never_promotes_the_damaged_one(two, damage):
    damage(two / NAME)
    save(two / NAME, state(3), RUN)
    assert load(two / NAME).state["number"] == 3
    assert load(two / (NAME + ".previous")).state["number"] == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_if_all_are_damaged_the_run_stops_and_says_how_to_begin_again(two, damage):
    previous = two / (NAME + ".previous")
    damage(previous)
    damage(two / NAME)
    with pytest.raises(RarlError, match=r"no usable checkpoint .*--force"):
        load_latest(two)


def test_a_flipped_bit_would_have_been_read_silently(two):
    """Why the checksum is there at all."""
    flip_a_bit(two / NAME)
    assert not torch.equal(torch.load(two / NAME, weights_only=True)["state"]["weights"], torch.full((50,), 2.0))


@pytest.mark.parametrize("step", ["replace", "fsync", "link"])
@pytest.mark.parametrize("already", [0, 1, 2])
def test_whatever_file_operation_is_the_last_one_a_checkpoint_is_left(tmp_path, monkeypatch, step, already):
    """The process 'dies' at the n-th operation, for every n."""
    for number in range(already):
        save(tmp_path / NAME, state(number), RUN)
    real, survived, n = getattr(os, step), False, 0
    while not survived:
        copy = tmp_path / f"copy {n}"
        copy.mkdir()
        for file in tmp_path.glob("checkpoint*"):
            shutil.copy(file, copy)
        calls = iter(range(1000))

        def dying(*arguments, _calls=calls, _n=n):
            if next(_calls) == _n:
                raise KeyboardInterrupt
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, step, dying)
            try:
                save(copy / NAME, state(already), RUN)
                survived = True
            except KeyboardInterrupt:
                pass
        loaded = load_latest(copy)
        allowed = {already} if survived else {already, already - 1}
        assert (loaded.state["number"] if loaded else -1) in allowed
        assert not list(copy.glob(".*.tmp"))
        # And it can go on from there.
        save(copy / NAME, state(7), RUN)
        assert load_latest(copy).state["number"] == 7
        n += 1
    assert n > (0 if step == "link" and not already else 1)


def test_many_kills_during_saving(toys, tmp_path):
    """SIGKILL at 25 random moments of a process that does nothing but save."""
    chance = random.Random(4)
    reached = -1
    left_over = 0
    for _ in range(25):
        pid = toys.start(save_forever=str(tmp_path))
        end = time.monotonic() + 20
        while time.monotonic() < end and not (tmp_path / (NAME + ".previous")).exists():
            time.sleep(0.002)
        time.sleep(chance.uniform(0.0, 0.03))
        os.kill(pid, 9)
        assert toys.wait(pid) == -9
        left_over += bool(list(tmp_path.glob(".*.tmp")))
        loaded = load_latest(tmp_path)
        assert torch.equal(loaded.state["tensor"], torch.full((20_000,), float(loaded.state["number"])))
        assert load(tmp_path / NAME).path.name == NAME  # the newest one, not only the one before
        assert not list(tmp_path.glob(".*.tmp"))
        reached = max(reached, loaded.state["number"])
        (tmp_path / (NAME + ".previous")).unlink()
    assert reached > 0
    assert left_over > 0, "no kill hit a save: the test shows nothing"


def test_full_disk_keeps_the_old_one(two):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = (two / NAME).read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(
            RarlError, match=r"update 1 could not be written \(File too large\); the one before is intact"
        ):
            save(two / NAME, {"big": torch.rand(1_000_000)}, RUN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (two / NAME).read_bytes() == before
    assert load_latest(two).state["number"] == 2
    assert not list(two.glob(".*.tmp"))


def test_full_disk_at_the_first_checkpoint_promises_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(RarlError, match=r"\(File too large\); there is none before"):
            save(tmp_path / NAME, {"big": torch.rand(1_000_000)}, RUN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_no_space_left_on_the_device(two, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RarlError, match="No space left on device"):
            save(two / NAME, state(3), RUN)
    assert load(two / NAME).state["number"] == 2


def test_another_configuration_lists_the_keys(two):
    asked = Header("toy/seed-0", {"learner": {"lr": 0.01, "depth": 2}, "seed": 0}, code_digest="b" * 12)
    with pytest.raises(RarlError) as caught:
        load_latest(two, expected=asked)
    message = str(caught.value)
    assert "learner.lr: 0.001 then, 0.01 now" in message
    assert "learner.width: 8 then, absent now" in message
    assert "learner.depth: absent then, 2 now" in message
    assert "code: aaaaaaaaaaaa then, bbbbbbbbbbbb now" in message
    assert "seed" not in message.split("something else")[1]
    assert "\n" not in message


def test_equal_configurations_in_other_clothes_are_equal(tmp_path):
    save(tmp_path / NAME, state(), Header("r", {"sizes": (1, 2), 3: "x"}))
    assert load_latest(tmp_path, expected=Header("r", {"sizes": [1, 2], "3": "x"})).header.run == "r"


def test_an_integer_is_not_the_equal_float_nor_a_boolean():
    assert checkpoints.differences({"a": 1, "b": True}, {"a": 1.0, "b": 1}) == [
        "a: 1 then, 1.0 now",
        "b: True then, 1 now",
    ]


def test_other_data_and_other_budget_are_told(tmp_path):
    save(tmp_path / NAME, state(), Header("r", data={"data/a/manifest.json": "1" * 64}, budget={"updates": 10}))
    asked = Header("r", data={"data/a/manifest.json": "2" * 64}, budget={"updates": 20})
    with pytest.raises(
        RarlError, match=r"budget\.updates: 10 then, 20 now; data data/a/manifest\.json: 1{12}… then, 2{12}… now"
    ):
        load_latest(tmp_path, expected=asked)


def test_a_checkpoint_of_another_run_is_refused(two):
    with pytest.raises(RarlError, match=r"belongs to run toy/seed-0, not to toy/seed-1"):
        load_latest(two, expected=Header("toy/seed-1", RUN.config))


def test_another_format_says_both_versions(two, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 2)
    with pytest.raises(RarlError, match=r"format 1, written by rarl \S+; this is rarl \S+, which reads format 2"):
        load_latest(two)


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.system, (f"touch '{self.marker}'",))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_refused_and_does_not_run(tmp_path, zipped):
    path, marker = tmp_path / NAME, tmp_path / "marker"
    with open(path, "wb") as file:
        torch.save({"header": {"format": 1}, "state": Hostile(marker)}, file, _use_new_zipfile_serialization=zipped)
    sidecar(path).write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {NAME}\n")
    for read in (lambda: load(path), lambda: load_latest(tmp_path)):
        with pytest.raises(RarlError, match="could run code"):
            read()
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the file is not hostile: the test shows nothing"


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04nonsense"])
def test_something_else_with_a_right_checksum_is_not_a_checkpoint(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    sidecar(tmp_path / NAME).write_text(hashlib.sha256(content).hexdigest())
    with pytest.raises(RarlError, match=NAME):
        load_latest(tmp_path)


def test_a_checkpoint_without_header_is_not_one(tmp_path):
    torch.save({"weights": torch.zeros(1)}, tmp_path / NAME)
    sidecar(tmp_path / NAME).write_text(hashlib.sha256((tmp_path / NAME).read_bytes()).hexdigest())
    with pytest.raises(RarlError, match="no header"):
        load(tmp_path / NAME)


def test_shapes_that_do_not_fit_are_one_line():
    class Learner:
        def __init__(self, width):
            self.net = torch.nn.Linear(4, width)

        def state_dict(self):
            return {"net": self.net.state_dict()}

        def load_state_dict(self, state):
            self.net.load_state_dict(state["net"])

    with pytest.raises(RarlError) as caught:
        checkpoints.restore(Learner(8), Learner(3).state_dict(), "x/checkpoint.pt")
    assert str(caught.value) == (
        "x/checkpoint.pt: does not fit this learner: net.weight is (3, 4) in the checkpoint and (8, 4) in the learner; "
        "net.bias is (3,) in the checkpoint and (8,) in the learner"
    )
    with pytest.raises(RarlError, match="net is not in the checkpoint"):
        checkpoints.restore(Learner(8), {}, "x")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"a": torch.tensor([1.0, float("nan")])}, "a holds nan"),
        ({"a": [{"b": torch.tensor(float("inf"))}]}, "a.0.b holds infinity"),
        ({"a": np.array([1, np.nan])}, "a holds nan"),
        ({"a": np.float32("inf")}, "a holds infinity"),
        ({"a": torch.arange(3), "b": float("inf"), "c": "nan", "d": np.arange(2)}, None),
    ],
)
def test_what_is_not_finite_is_found(value, found):
    assert checkpoints.first_not_finite(value) == found
