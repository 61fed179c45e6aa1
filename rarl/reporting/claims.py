"""The paper's claims, our own questions and the rules by which they are judged: config/claims.yaml, read and checked.

What is wrong in the file is reported in one line that names file, claim and key. Imports neither pandas nor matplotlib
nor torch, so that it is done before anything runs. `rarl.reporting.verdicts` answers the claims.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from rarl.config.scale import scales_in, task_set_name
from rarl.config.validate import Settings, validate
from rarl.envs.spec import spec_of
from rarl.errors import RarlError, did_you_mean
from rarl.files import read_yaml
from rarl.reporting.registry import CHECKS, COSTS, INTERVENTION_NAMES, MEASURES, QUANTITY_NAMES, without_numbers

LEVEL = 0.95
Kind = Literal["superiority", "equivalence", "no gain", "estimate", "count"]
WITH_MARGIN = ("equivalence", "no gain")
EVERY = "every"  # in place of a task set's name: the claim is about all of an experiment's
# In place of a task set's name; which one they mean depends on the scale, see `Study.named_set`.
TASK_SET_RULES = (EVERY, "shared", "smaller", "larger", "probed")


class Rules(Settings):
    """Rules of judgement, fixed before the runs."""

    level: float = Field(LEVEL, gt=0, lt=1)
    min_seeds: int = Field(5, ge=1)
    solved: float = Field(0.5, gt=0, le=1, description="share of the expert's return from which on a task is solved")
    reads: float = Field(0.01, ge=0, lt=1, description="share of actions that must depend on what is retrieved")


class Revised(Settings):
    """A validity check that was written anew once runs had been seen."""

    before: str = Field(description="the check that it takes the place of")
    scales: list[str] = Field(description="where runs had been seen")
    seen: list[str] = Field(description="claims of which runs had been seen: these are judged by the check before")


class Paper(Settings):
    """What the paper says: its number, as it is printed, of how many seeds, and the size of its experiment."""

    number: str | int | float = ""
    size: float | None = Field(None, description="its effect, with its sign, in the claim's unit")
    n: str | int = ""
    scale: dict[str, float] = Field({}, description="quantity -> the paper's, to set ours against")


class ClaimTest(Settings):
    """How runs answer a claim: what is measured of which variants."""

    measure: str
    experiment: str
    task_set: str = Field(description=f"a name, or one of {', '.join(TASK_SET_RULES)}")
    a: str = Field(description="a variant of the experiment, or experiment/variant of another one")
    b: str | None = None
    of: str = Field("", description="an intervention on retrieval, or a group of tasks")
    against: str = Field("", description="the one that it is compared with")
    quantity: str = Field("", description="of attention, or of what runs cost")
    chance: str = Field("", description="the quantity that is subtracted")
    factor: float = Field(1.0, description="of the quantity, such as 100 for percent")
    control: str = Field("own", description="the intervention that must be better than nothing retrieved")

    def sides(self) -> list[tuple[str, str]]:
        """(experiment, variant) of a and, if there is one, of b; the variant may be a pattern, such as "a6-*"."""
        named = [name.rpartition("/") for name in (self.a, self.b) if name is not None]
        return [(experiment or self.experiment, variant) for experiment, _, variant in named]


class Claim(Settings):
    """One claim of the paper, or a question of our own."""

    id: str = Field(min_length=1)
    text: Annotated[str, AfterValidator(lambda text: " ".join(text.split()))] = Field(min_length=1)
    place: str = ""
    paper: Paper = Paper()
    kind: Kind = "superiority"
    family: str = Field("", description="of what p is corrected with")
    primary: bool = Field(False, description="whether the report leads with it")
    overview: bool = Field(False, description="whether the first page shows it beside those")
    qualifies: str = Field("", description="the primary claim below which the first page shows it")
    validity: list[str] = Field([], description="the checks without which it means nothing")
    revised: dict[str, Revised] = Field({}, description="its checks that were revised after its runs; set by the file")
    exploratory: bool = Field(False, description="asked after runs of it had been seen, however often they are made")
    margin: float = Field(0.0, ge=0, description="half-width of what counts as no difference")
    unit: str = ""
    scales: list[str] = Field([], description="where it can be judged")
    test: ClaimTest | None = Field(None, description="null: no run of ours can answer it")
    elsewhere: bool = Field(False, description="the paper made it of another environment")
    reading_of: str = Field("", description="the claim of which this is the less likely reading; not counted")
    own: bool = Field(False, description="a question of our own; set by where it stands in the file")


class _File(Settings):
    settings: Rules = Rules()
    revised_checks: dict[str, Revised] = Field({})
    claims: list[Any]
    questions: list[Any] = Field([])


def load_claims(path: str | Path) -> tuple[Rules, list[Claim]]:
    """Read and check claims.yaml.

    What claims say of scales and experiments is compared with the files beside it, and their task sets with the scales
    that can judge them, where these files are there.

    Raises:
      RarlError: the first mistake, named with the claim's id and key.
    """
    path = Path(path)
    raw = read_yaml(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("claims"), list):
        raise RarlError(f"{path}: needs the keys settings, claims and questions")
    file = validate(_File, raw, str(path))
    claims: list[Claim] = []
    for own, entries in ((False, file.claims), (True, file.questions)):
        for i, entry in enumerate(entries):
            name = entry.get("id") if isinstance(entry, dict) else None
            where = f"{path}: claim {name}" if name else f"{path}: {'questions' if own else 'claims'}.{i}"
            if name and any(other.id == name for other in claims):
                raise RarlError(f"{path}: the id {name!r} is there twice")
            claims.append(validate(Claim, entry | {"own": own} if isinstance(entry, dict) else entry, where))
            _check_claim(claims[-1], path.parent, where)
            for other in claims[:-1]:
                both = [scale for scale in other.scales if scale in claims[-1].scales]
                if other.test == claims[-1].test is not None and both:
                    raise RarlError(f"{where}: test: {other.id} asks the same at scale {both[0]!r}")
    ids = [claim.id for claim in claims]
    led = [claim.id for claim in claims if claim.primary]

    def check(where: str, what: str, name: str, known: Iterable[str]) -> None:
        if name and name not in (known := list(known)):
            raise _unknown(f"{path}: {where}", what, name, known)

    for claim in claims:
        check(f"claim {claim.id}: qualifies", "primary claim", claim.qualifies, led)
        check(f"claim {claim.id}: reading_of", "claim", claim.reading_of, ids)
    for name, revised in file.revised_checks.items():
        where = f"revised_checks.{name}"
        check(where, "check", name, CHECKS)
        for scale in revised.scales:
            check(f"{where}.scales", "scale", scale, scales_in(path.parent.parent))
        check(f"{where}.before", "check", revised.before, CHECKS)
        for seen in revised.seen:
            check(f"{where}.seen", "claim", seen, ids)
    return file.settings, [
        claim.model_copy(update={"revised": {n: r for n, r in file.revised_checks.items() if claim.id in r.seen}})
        for claim in claims
    ]


def _unknown(where: str, what: str, name: str, known: Iterable[str]) -> RarlError:
    return RarlError(f"{where}: unknown {what} {name!r}: {did_you_mean(name, known)}")


def _check_claim(claim: Claim, folder: Path, where: str) -> None:
    def check(key: str, what: str, name: str, known: Iterable[str]) -> None:
        known = list(map(str, known))
        patterned = what == "variant" and any(fnmatchcase(one, name) for one in known)
        if known and name not in known and not patterned:
            raise _unknown(f"{where}: {key}", what, name, known)

    if not claim.margin > 0 and (claim.kind in WITH_MARGIN or (claim.kind == "superiority" and claim.test)):
        raise RarlError(f"{where}: margin: {claim.kind} needs a margin above 0")
    if claim.test and not claim.family:
        raise RarlError(f"{where}: family: what has a test needs a family")
    for name in claim.validity:
        check("validity", "check", name, CHECKS)
    for name in claim.scales:
        check("scales", "scale", name, scales_in(folder.parent))
    test = claim.test
    if test is None:
        return
    check("test.measure", "measure", test.measure, MEASURES)
    experiments = sorted(path.stem for path in (folder / "experiments").glob("*.yaml"))
    check("test.experiment", "experiment", test.experiment, experiments)
    for key, (experiment, variant) in zip("ab", test.sides(), strict=False):
        check(f"test.{key}", "experiment", experiment, experiments)
        check(f"test.{key}", "variant", variant, _names(folder / f"experiments/{experiment}.yaml", "variants"))
    _check_form(test, folder, where)
    scales = [folder / f"{name}.yaml" for name in claim.scales]
    if test.task_set not in TASK_SET_RULES and scales and all(path.is_file() for path in scales):
        keys = [key for path in scales for key in _names(path, "experiments", test.experiment, "task_sets")]
        known = sorted(set(map(task_set_name, keys)))
        if test.task_set not in known:
            hint = did_you_mean(str(test.task_set), (*known, *TASK_SET_RULES))
            raise RarlError(
                f"{where}: test.task_set: no scale of {', '.join(claim.scales)} plans {test.task_set!r}: {hint}"
            )


def _check_form(test: ClaimTest, folder: Path, where: str) -> None:
    """That a test has the keys that its measure needs, no others, and that these name what is measured."""
    _, forms = MEASURES[test.measure]
    given = {key for key in ("b", "of", "against", "quantity") if getattr(test, key)}
    if given not in forms:
        needed = ", or ".join(" and ".join(sorted(form)) for form in forms)
        raise RarlError(f"{where}: test: {test.measure} needs {needed}, got {' and '.join(sorted(given)) or 'neither'}")
    interventions, quantities = ("intervention", INTERVENTION_NAMES), ("quantity", QUANTITY_NAMES)
    attended = ("group of tasks", _groups(folder / f"experiments/{test.experiment}.yaml"))
    of = attended if test.measure == "attention" else interventions
    measured = ("quantity", COSTS) if test.measure == "cost_ratio" else quantities
    kinds = {"of": of, "against": of, "quantity": measured, "chance": quantities, "control": interventions}
    for key, (what, known) in kinds.items():
        name = getattr(test, key)
        if name and known and {name, without_numbers(name)}.isdisjoint(known):
            raise _unknown(f"{where}: test.{key}", what, name, known)


def _groups(path: Path) -> list[str]:
    """Of the tasks of an experiment's environment; none where that is not there."""
    with suppress(RarlError):
        return list(spec_of(str(_at(path, "environment"))).task_groups)
    return []


@functools.lru_cache(maxsize=64)
def _read(path: Path, modified: float) -> Any:
    return read_yaml(path)


def _at(path: Path, *keys: str) -> Any:
    """What stands under these keys in a file; None where there is no such thing."""
    found = _read(path, path.stat().st_mtime) if path.is_file() else None
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _names(path: Path, *keys: str) -> list[Any]:
    found = _at(path, *keys)
    return list(found) if isinstance(found, Mapping) else []
