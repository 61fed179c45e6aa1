"""h(x) = sign(x) (sqrt(|x| + 1) - 1) + εx, the scale on which R2D2's network predicts values, and its inverse.

It takes the place of clipped rewards: large returns are squeezed like a square root, and ε > 0 keeps the inverse
Lipschitz, so that bootstrapping through it converges (Pohlen et al., 2018).

The textbook forms subtract nearly equal numbers: in float32 the inverse loses three of seven digits at 1, and all of
them near 0. With w = sqrt(|x| + 1) - 1, hence |x| = w (w + 2), nothing cancels in either direction:

    w = |x| / (sqrt(|x| + 1) + 1)                            and  |h| = w + ε|x|;
    w = 2|h| / (1 + 2ε + sqrt((1 + 2ε)² + 4ε|h|)), the root of εw² + (1 + 2ε)w - |h| = 0,  and  |x| = w (w + 2).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

EPSILON = 1e-3  # of R2D2


def rescale(x: Float[Tensor, "*b"], epsilon: float | None = EPSILON) -> Float[Tensor, "*b"]:
    """h(x), elementwise, in x's dtype: from units of reward to the network's scale.

    Args:
      x: returns.
      epsilon: at least 0; None: the network predicts returns as they are, and x is given back.
    """
    if epsilon is None:
        return x
    return x / ((x.abs() + 1).sqrt() + 1) + epsilon * x


def unrescale(y: Float[Tensor, "*b"], epsilon: float | None = EPSILON) -> Float[Tensor, "*b"]:
    """The inverse of `rescale` with the same epsilon: from the network's scale to units of reward."""
    if epsilon is None:
        return y
    b = 1 + 2 * epsilon
    k = 2 / (b + (b * b + 4 * epsilon * y.abs()).sqrt())  # w = k|y|
    return k * y * (k * y.abs() + 2)
