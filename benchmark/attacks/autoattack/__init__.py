"""AutoAttack standard (Croce and Hein, ICML 2020): the reference implementation and an engine of our own.

`reference` runs pyautoattack; `engine` is our implementation of the same four attacks.
"""

from advbench.benchmark.attacks.autoattack.reference import (
    FEWEST_CLASSES,
    STANDARD_TARGETS,
    propose,
    seed_of,
    settings,
    targets,
)

__all__ = ["FEWEST_CLASSES", "STANDARD_TARGETS", "propose", "seed_of", "settings", "targets"]
