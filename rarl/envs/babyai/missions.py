"""Missions as numbers: the words of minigrid's grammar for BabyAI, and its longest sentence.

    mission      part | part ", then" part | part "after you" part
    part         clause | clause "and" clause
    clause       "go to" thing | "open" thing | "pick up" thing | "put" thing "next to" thing
    thing        ("a" | "the") [colour] kind [place]
    place        "in front of you" | "behind you" | "on your left" | "on your right"

A token is a word of one of these phrases, or the comma.
"""

from __future__ import annotations

import numpy as np

from rarl.errors import RarlError, did_you_mean

_ARTICLES = ("a", "the")
COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
_KINDS = ("box", "ball", "key", "door", "object")
_PLACES = ("in front of you", "behind you", "on your left", "on your right")
_VERBS = ("go to", "open", "pick up", "put", "next to")
_JOINTS = ("and", ", then", "after you")

PADDING = 0
# A word's token is its place here. Words that occur in several phrases come once.
_PHRASES = (*_ARTICLES, *COLOURS, *_KINDS, *_PLACES, *_VERBS, *_JOINTS)
VOCABULARY = tuple(dict.fromkeys(("", *" ".join(_PHRASES).split())))
_TOKENS = {word: token for token, word in enumerate(VOCABULARY) if token != PADDING}


def _longest(*phrases: str) -> int:
    return max(len(phrase.split()) for phrase in phrases)


_THING = 1 + 1 + 1 + _longest(*_PLACES)  # article, colour, kind, place
_CLAUSE = _longest("put") + _THING + _longest("next to") + _THING  # no other verb takes two things
_PART = _CLAUSE + _longest("and") + _CLAUSE
MISSION_LENGTH = _PART + _longest(", then", "after you") + _PART


def tokenise(text: str) -> np.ndarray:
    """A mission -> (MISSION_LENGTH,) uint8 tokens, padded with 0.

    Raises:
      RarlError: a word is not in the vocabulary, or there are none or too many.
    """
    tokens = np.full(MISSION_LENGTH, PADDING, dtype=np.uint8)
    found = text.replace(",", " ,").split()
    if not 1 <= len(found) <= MISSION_LENGTH:
        raise RarlError(f"mission {text!r}: {len(found)} words, must be 1 to {MISSION_LENGTH}")
    for i, word in enumerate(found):
        if word not in _TOKENS:
            raise RarlError(f"mission {text!r}: unknown word {word!r}: {did_you_mean(word, _TOKENS)}")
        tokens[i] = _TOKENS[word]
    return tokens


def words(tokens: np.ndarray) -> str:
    """The text of tokens: the inverse of `tokenise`."""
    return " ".join(VOCABULARY[token] for token in np.asarray(tokens).tolist() if token != PADDING).replace(" ,", ",")


def things(mission: str) -> set[tuple[str, str]]:
    """What a mission speaks of: {("red", "ball"), ("", "door")}, colour (or "" without one) and kind."""
    found, before = set(), ""
    for word in mission.replace(",", " ").split():
        if word in _KINDS:
            found.add((before if before in COLOURS else "", word))
        before = word
    return found


def share_a_thing(one: set[tuple[str, str]], other: set[tuple[str, str]]) -> bool:
    """Whether two missions speak of things that may be the same: of one kind, and not of different colours."""
    return any(
        kind == kind_too and (colour == colour_too or not colour or not colour_too)
        for colour, kind in one
        for colour_too, kind_too in other
    )
