"""The nearest point of a hyperplane within [0,1]^D, in L∞ and L2, without sorting.

With distance c ≥ 0 to go, the solution moves every coordinate toward the hyperplane by min(λ·speed, room): speed is 1
in L∞ and |w| in L2, room is what is left to the edge of the box. Progress f(λ) = Σ |w| min(λ·speed, room) is concave,
increasing and piecewise linear, so Newton's method from the left reaches f(λ) = c in a few exact steps, where sorting
the breakpoints (FAB, Croce and Hein, ICML 2020, Section 3.1) costs more than the rest of an iteration.
"""

import torch
from torch import Tensor

from advbench.benchmark.attacks.ball import Norm

_STEPS = 40
_SETTLED = 1e-6
_NOTHING = 1e-30


def onto_hyperplane(point: Tensor, w: Tensor, distance: Tensor, norm: Norm) -> Tensor:
    """Return the displacement (R, D) that takes points to their hyperplanes, or as close as the box lets them.

    Args:
        point: points in [0,1], (R, D).
        w: normals, (R, D); a coordinate with w = 0 is left alone.
        distance: <w, point> − b of each point, (R,): what has to be brought to 0.
        norm: whose shortest displacement is wanted.
    """
    weight = w.abs()
    toward = torch.where(distance >= 0, -1.0, 1.0)[:, None] * w.sign()
    room = torch.where(toward > 0, 1 - point, point)
    wanted = distance.abs()
    speed = None if norm == "linf" else weight
    full = weight.sum(dim=1) if speed is None else torch.linalg.vecdot(weight, weight)
    multiplier = wanted / full.clamp_min(_NOTHING)
    for _ in range(_STEPS):
        reach = multiplier[:, None] if speed is None else multiplier[:, None] * speed
        missing = wanted - torch.linalg.vecdot(weight, torch.minimum(room, reach))
        free = weight * (room > reach)
        slope = free.sum(dim=1) if speed is None else torch.linalg.vecdot(free, speed)
        # Beyond the last breakpoint nothing moves any more: the whole room is used.
        advance = torch.where(slope > 0, missing / slope.clamp_min(_NOTHING), torch.inf).clamp_min(0)
        open_ = missing > _SETTLED * wanted
        if not bool((open_ & multiplier.isfinite()).any()):
            break
        multiplier = torch.where(open_, multiplier + advance, multiplier)
    reach = multiplier[:, None] if speed is None else (multiplier[:, None] * speed).nan_to_num(nan=0)
    return toward * torch.minimum(room, reach)
