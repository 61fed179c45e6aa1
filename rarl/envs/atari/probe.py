"""What probes record of Atari games: screens, of a part of one episode, for episodes are long."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from rarl.envs.atari.observation import newest_frame
from rarl.envs.probing import Probing


def screen(x: np.ndarray) -> dict[str, Any]:
    """The newest frame (84, 84) as a PNG in base64."""
    buffer = io.BytesIO()
    Image.fromarray(newest_frame(x)).save(buffer, format="PNG", optimize=True)
    return {"frame": base64.b64encode(buffer.getvalue()).decode("ascii")}


PROBING = Probing(state=screen, quartiles=(2,), steps=60, up_to_reward=40, every=6, named_actions=True)
