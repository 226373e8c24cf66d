"""Runs whose adapter was changed since it was trained: they are trained anew."""

from collections.abc import Iterable, Mapping

from advbench.benchmark.runs.run_folder import RunFolder


def forget_changed(folders: Iterable[RunFolder], sources: Mapping[str, str | None]) -> list[str]:
    """Forget the training of runs that another version of their adapter made; return their labels.

    Args:
        folders: runs, some of which may be there.
        sources: sha256 of the adapter's file, for the methods that are checked.
    """
    renewed = []
    for folder in folders:
        trained = folder.trained()
        name = folder.spec.method
        if trained is None or name not in sources or trained.method.source_sha256 == sources[name]:
            continue
        with folder.claim("train") as free:
            if free:
                folder.forget_training()
                folder.retire("train")
                renewed.append(folder.spec.label)
    return renewed
