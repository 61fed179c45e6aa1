"""Pictures of a Gridroboman board, drawn from an observation alone.

Objects differ by colour (Okabe-Ito, safe for colour-blind readers), shape and letter: red is a disc, green a
triangle, blue a square. The robot is a dark box with two eyes and a window; in the window lies what is in its cell.
What it carries lies there on yellow. Of a stack, the upper object covers the lower one's upper right.
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rarl.envs.gridroboman.tasks import BOARD, COLOURS
from rarl.errors import RarlError

_FILL = ("#D55E00", "#009E73", "#0072B2")
_EDGE = ("#8F3F00", "#00664A", "#004A75")
_PAPER, _LINE, _ROBOT, _CARRIES = "#FBFAF7", "#D9D5CC", "#33363D", "#F6D94C"
_SMOOTH = 8  # tiles are drawn this many times larger and averaged
_LETTERS_FROM = 20  # pixels per cell; smaller letters would be specks
_MIN_CELL = 8


def board_image(observation: np.ndarray, cell: int = 32, held: int | None = None) -> np.ndarray:
    """The board as an image.

    Args:
      observation: (11,) integers, as the environment gives them; x to the right, y downwards.
      cell: pixels per cell, at least 8.
      held: the object that the robot carries, where that is known. Only one kind of state needs it: the observation
        does not tell a held object from the top of a stack under the robot, if there are both. Then the picture
        takes the first of the two (red, green, blue) for the held one.

    Returns:
      (7 * cell, 7 * cell, 3) uint8.
    """
    if cell < _MIN_CELL:
        raise RarlError(f"cell={cell}: a board needs at least {_MIN_CELL} pixels per cell")
    robot, held, piles = _read(observation, held)
    image = np.empty((BOARD * cell, BOARD * cell, 3), dtype=np.uint8)
    for y in range(BOARD):
        for x in range(BOARD):
            here = (x, y) == robot
            tile = _tile(cell, here, held if here else None, piles.get((x, y), ()))
            image[y * cell : (y + 1) * cell, x * cell : (x + 1) * cell] = tile
    return image


def board_text(observation: np.ndarray, held: int | None = None) -> str:
    """The board as 7 lines of text and a line on the robot.

    R, G, B are the objects, "R/G" red on green, "[ ]" the robot, "[R^ G]" the robot carrying red above green.

    Args:
      observation, held: as for `board_image`.
    """
    robot, held, piles = _read(observation, held)
    rows = []
    for y in range(BOARD):
        row = []
        for x in range(BOARD):
            words = ["/".join(COLOURS[i][0].upper() for i in reversed(piles.get((x, y), ())))]
            if (x, y) == robot:
                if held is not None:
                    words.insert(0, COLOURS[held][0].upper() + "^")
                text = f"[{' '.join(filter(None, words)) or ' '}]"
            else:
                text = words[0] or "."
            row.append(f"{text:^8}")
        rows.append("".join(row).rstrip())
    carrying = "holding nothing" if held is None else f"holding {COLOURS[held]}"
    return "\n".join([*rows, f"robot at ({robot[0]}, {robot[1]}), {carrying}"])


def _read(
    observation: np.ndarray, held: int | None
) -> tuple[tuple[int, int], int | None, dict[tuple[int, int], tuple[int, ...]]]:
    """Robot's cell, held object, and the objects on the board by cell, bottom first."""
    numbers = [int(number) for number in np.asarray(observation).ravel()]
    if len(numbers) != 2 + 3 * len(COLOURS):
        raise RarlError(f"an observation of Gridroboman has {2 + 3 * len(COLOURS)} numbers, not {len(numbers)}")
    robot = (numbers[0], numbers[1])
    cells = [(numbers[k], numbers[k + 1]) for k in (2, 5, 8)]
    status = numbers[4::3]
    if held is None:
        # Whoever is up in the robot's cell is held, unless it is needed on top of the one that lies underneath there.
        up = [i for i, cell in enumerate(cells) if cell == robot and status[i] == 1]
        under = sum(cell == robot and status[i] == -1 for i, cell in enumerate(cells))
        held = up[0] if len(up) > under else None
    piles: dict[tuple[int, int], tuple[int, ...]] = {}
    for i in sorted(range(len(COLOURS)), key=lambda i: status[i]):
        if i != held:
            piles[cells[i]] = (*piles.get(cells[i], ()), i)
    return robot, held, piles


@functools.lru_cache(maxsize=1024)
def _tile(cell: int, robot: bool, held: int | None, pile: tuple[int, ...]) -> np.ndarray:
    """One cell, (cell, cell, 3) uint8. Lengths below are in cells."""
    size = cell * _SMOOTH
    image = Image.new("RGB", (size, size), _PAPER)
    draw = ImageDraw.Draw(image)
    line = max(1, round(cell / 32)) * _SMOOTH
    draw.rectangle((0, size - line, size, size), fill=_LINE)
    draw.rectangle((size - line, 0, size, size), fill=_LINE)
    letters = cell >= _LETTERS_FROM
    if not robot:
        _pile(draw, size, pile, (0.485, 0.485), 0.34, letters)
    else:
        _box(draw, size, held is not None)
        if held is None:
            _pile(draw, size, pile, (0.485, 0.6), 0.25, letters)
        elif not pile:
            _shape(draw, size, held, (0.485, 0.6), 0.25, letters)
        else:
            _pile(draw, size, pile, (0.7, 0.72), 0.15, False)
            _shape(draw, size, held, (0.36, 0.56), 0.2, letters)
    return np.asarray(image.resize((cell, cell), Image.Resampling.BOX))


def _box(draw: ImageDraw.ImageDraw, size: int, carries: bool) -> None:
    draw.rounded_rectangle(_at(size, 0.03, 0.03, 0.94, 0.94), radius=0.16 * size, fill=_ROBOT)
    draw.rounded_rectangle(_at(size, 0.12, 0.3, 0.85, 0.86), radius=0.08 * size, fill=_CARRIES if carries else _PAPER)
    for x in (0.3, 0.67):
        draw.ellipse(_at(size, x - 0.075, 0.095, x + 0.075, 0.245), fill=_PAPER)


def _pile(
    draw: ImageDraw.ImageDraw,
    size: int,
    pile: tuple[int, ...],
    centre: tuple[float, float],
    radius: float,
    letters: bool,
) -> None:
    if len(pile) == 1:
        _shape(draw, size, pile[0], centre, radius, letters)
    elif pile:
        x, y = centre
        shift = 0.42 * radius
        _shape(draw, size, pile[0], (x - shift, y + shift), 0.72 * radius, False)
        _shape(draw, size, pile[1], (x + shift, y - shift), 0.72 * radius, letters)


def _shape(
    draw: ImageDraw.ImageDraw, size: int, i: int, centre: tuple[float, float], radius: float, letters: bool
) -> None:
    """Object i with a pale rim, so that it stands out from what it covers."""
    x, y = centre
    for r, colour in ((radius + 0.045, _PAPER), (radius, _EDGE[i]), (radius * 0.86, _FILL[i])):
        match i:
            case 0:
                draw.ellipse(_at(size, x - r, y - r, x + r, y + r), fill=colour)
            case 1:
                r *= 1.12  # a triangle looks smaller than a disc
                corners = ((x, y - r), (x + r, y + 0.8 * r), (x - r, y + 0.8 * r))
                draw.polygon([(a * size, b * size) for a, b in corners], fill=colour)
            case 2:
                r *= 0.88
                draw.rounded_rectangle(_at(size, x - r, y - r, x + r, y + r), radius=0.2 * r * size, fill=colour)
    if letters:
        font = _font(round(1.15 * radius * size))
        low = 0.22 * radius if i == 1 else 0
        draw.text((x * size, (y + low) * size), COLOURS[i][0].upper(), font=font, fill="white", anchor="mm")


@functools.cache
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(pixels)


def _at(size: int, *corners: float) -> tuple[float, ...]:
    return tuple(c * size for c in corners)
