"""The 40 levels: the 19 of the ICLR 2019 list and one of each of the 21 bonus families.

The paper uses "all the 40 available tasks" and cites the two pages of the original repository. The first has 19
headings; the bonus levels' code has 21 families: 40 together. Where a family comes in sizes, its plain id is taken;
without a plain id the default arguments of its class; without defaults the largest size.

The paper calls "around 15" of them compositional, "i.e., requires to compose information from 2 or more sub-tasks",
without naming them. Here a level is compositional if

  sequence   its mission joins several instructions by "and", "then" or "after you", or
  unlock     a door has to be unlocked on the way to something else, or
  skills     its missions need several skills of other levels in one maze: finding two things and carrying one to the
             other, or any verb, with doors to unlock and things in the way.

Not compositional: unlocking a door for its own sake (Unlock, UnlockLocal, KeyInBox), putting next to each other
what lies in one room (PutNextLocal, PutNextS7N4), and UnblockPickup, most of whose missions need no unblocking.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from rarl.envs.babyai.missions import COLOURS
from rarl.envs.names import slug
from rarl.errors import RarlError, did_you_mean

if TYPE_CHECKING:
    from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel


@dataclass(frozen=True)
class Level:
    """One level.

    Attributes:
      id: its place in `LEVELS`.
      name: as in minigrid's registry, without "BabyAI-" and the version.
      source: "iclr19" or "bonus".
      composition: why it is compositional ("sequence", "unlock" or "skills"), "" if it is not.
      target: colour and kind of the thing to go to, of a level whose mission is always the same.
    """

    id: int
    name: str
    source: str
    composition: str
    target: tuple[str, str] | None = None

    @property
    def compositional(self) -> bool:
        """Whether its missions are composed of sub-tasks."""
        return bool(self.composition)

    @property
    def slug(self) -> str:
        """For paths: "GoToRedBallGrey" is "go-to-red-ball-grey", "FindObjS5" is "find-obj-s5"."""
        return slug(self.name)

    @property
    def gym_id(self) -> str | None:
        """Its id in minigrid's registry; None for the one that minigrid lacks."""
        return None if self.name == "PutNext" or self.target else f"BabyAI-{self.name}-v0"


# In the order of the original pages, which lead from simple to composed levels.
_ICLR19 = """
    GoToObj
    GoToRedBall
    GoToRedBallGrey
    GoToLocal
    PutNextLocal
    PickupLoc
    GoToObjMaze
    GoTo
    Pickup
    UnblockPickup
    Open
    Unlock
    PutNext         skills
    Synth           skills
    SynthLoc        skills
    GoToSeq         sequence
    SynthSeq        sequence
    GoToImpUnlock   unlock
    BossLevel       sequence
"""  # PutNext: the maze; missing in minigrid, made anew
_BONUS = """
    GoToRedBlueBall
    OpenRedDoor
    OpenDoor
    GoToDoor
    GoToObjDoor
    ActionObjDoor
    UnlockLocal
    KeyInBox
    UnlockPickup        unlock
    BlockedUnlockPickup unlock
    UnlockToUnlock      unlock
    PickupDist
    PickupAbove
    OpenTwoDoors        sequence
    OpenRedBlueDoors    sequence
    FindObjS5
    KeyCorridor         unlock
    OneRoomS8
    PutNextS7N4
    MoveTwoAcrossS8N9   sequence
    OpenDoorsOrderN4    sequence
"""  # FindObj and OneRoom: defaults of their classes; the last three: their largest size


def _read() -> tuple[Level, ...]:
    rows = [(source, *line.split()) for source, table in (("iclr19", _ICLR19), ("bonus", _BONUS))
            for line in table.strip().splitlines()]  # fmt: skip
    return tuple(Level(i, name, source, "".join(why)) for i, (source, name, *why) in enumerate(rows))


LEVELS = _read()
# GoToLocal's missions, each as a level of its own, for the control in which the mission is hidden.
MISSIONS = tuple(
    Level(len(LEVELS) + i, f"GoToLocal{colour.title()}{kind.title()}", "mission", "", (colour, kind))
    for i, (colour, kind) in enumerate(product(COLOURS, ("ball", "box", "key")))
)
_BY_NAME = {level.name: level for level in (*LEVELS, *MISSIONS)}


def level_named(name: str) -> Level:
    """The level called `name`; RarlError with close ones if there is none."""
    if name not in _BY_NAME:
        raise RarlError(f"unknown BabyAI level {name!r}: {did_you_mean(name, _BY_NAME)}")
    return _BY_NAME[name]


def make_level(level: Level | str) -> RoomGridLevel:
    """The level as minigrid's environment, without wrappers and checks; it prints nothing."""
    from rarl.envs.babyai.generation import make, make_go_to  # minigrid takes half a second to import

    level = level_named(level) if isinstance(level, str) else level
    return make(level.gym_id) if level.target is None else make_go_to(*level.target)
