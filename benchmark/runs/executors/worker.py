"""A worker process of the local executor: `python -m advbench.benchmark.runs.executors.worker FUNCTION ARGUMENTS`.

It reads jobs from standard input, one JSON line each, and answers on what was its standard output. While a job runs
everything that is printed goes to the job's log. When standard input ends it stops at once, so it never outlives the
process that started it. Torch is imported only with the function, after the environment has been set.
"""

import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from advbench.benchmark.runs.job import Job


def main(function: str, arguments: str) -> None:
    """Do jobs until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the executor's; it then closes our input
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    console = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(console, 1)

    def answer(kind: str, **more: object) -> None:
        answers.write(json.dumps({"kind": kind, **more}) + "\n")

    def report(progress: Any) -> None:  # noqa: ANN401 (anything with the four attributes)
        answer("progress", **{name: getattr(progress, name) for name in ("done", "total", "unit", "detail")})

    waiting: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting), daemon=True).start()
    perform = _load(function)
    answer("ready")
    while True:
        request = waiting.get()
        _print_to(Path(request["log"]))
        try:
            outcome = perform(Job.from_plain(request["job"]), **json.loads(arguments), on_progress=report)
        except Exception as error:  # noqa: BLE001 (whatever fails is told to the executor)
            answer("failed", reason=" ".join(str(error).split()) or type(error).__name__)
        else:
            answer("finished", outcome=outcome)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(console, 1)
            os.dup2(console, 2)


def _listen(requests: BufferedReader, waiting: "SimpleQueue[dict[str, Any]]") -> None:
    for line in requests:
        waiting.put(json.loads(line))
    os._exit(0)  # the executor is gone or wants us gone; whatever we do can be done again


def _load(function: str) -> Callable[..., str]:
    module, _, name = function.partition(":")
    loaded: Callable[..., str] = getattr(importlib.import_module(module), name)
    return loaded


def _print_to(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


if __name__ == "__main__":
    main(*sys.argv[1:])
