"""The learning rate over training, as the protocol's schedule has it. Torch-free: training and validation share it."""

from advbench.benchmark.protocol import Schedule, Training


def learning_rate(schedule: Schedule, iteration: int, *, per_epoch: int, epochs: int) -> float:
    """Return the learning rate of a zero-based iteration (protocol.Schedule says how)."""
    if schedule.kind == "piecewise":
        return schedule.peak / 10.0 ** sum(iteration // per_epoch >= drop for drop in schedule.drops)
    total = per_epoch * epochs
    rise = float(schedule.rise) * total
    if iteration < rise:
        return schedule.peak * iteration / rise
    return schedule.peak * (total - iteration) / (total - rise)


def first_drop(training: Training) -> float:
    """Return the fraction of training at which the learning rate first drops; one half under a one-cycle schedule."""
    drops = training.schedule.drops
    return drops[0] / training.epochs if drops else 0.5


def rate_at_end(training: Training, epoch: int, per_epoch: int) -> float:
    """Return the learning rate of the last iteration of a zero-based epoch: what the learning curve shows."""
    last = (epoch + 1) * per_epoch - 1
    return learning_rate(training.schedule, last, per_epoch=per_epoch, epochs=training.epochs)
