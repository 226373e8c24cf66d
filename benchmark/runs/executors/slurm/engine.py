"""Hand an array to Slurm: submitit writes the batch script.

submitit's own jobs are pickled functions: a pickle in and a pickle out for each, which another version of the code
cannot read; they need srun, and accounting to learn how they ended. Ours are `advbench job FILE --part N`, so of
submitit remain the names and checks of parameters, the script and the command that queues it. Torch-free.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor
from submitit.core.utils import FailedSubmissionError

from advbench.benchmark.runs.executors.slurm.commands import SlurmError, ask
from advbench.benchmark.runs.executors.slurm.profile import Profile

SIGNAL = "USR2"
"""What Slurm sends before the time limit; USR1 belongs to NCCL."""


class Engine(SlurmExecutor):
    """submitit's executor without pickles."""

    def __init__(self, folder: Path, profile: Profile, command: Sequence[str]) -> None:
        super().__init__(folder=folder)
        self.command = shlex.join(command)
        self.update_parameters(**parameters(profile))

    def send(
        self,
        name: str,
        shell: str,
        options: Mapping[str, object],
        *,
        count: int = 0,
        parallel: int = 0,
        dependency: str = "",
    ) -> str:
        """Queue an array of `count` tasks, or one job if that is 0; return Slurm's id.

        Args:
            name: of the job in Slurm.
            shell: what follows `advbench` in the script of an array; the whole command of a single job.
            options: of sbatch, beside those of the profile.
            count: tasks of the array.
            parallel: at most so many of them at once; 0: all.
            dependency: as sbatch has it.

        Raises:
            SlurmError: with sbatch's words, if it refuses.
        """
        extra = {**self.parameters["additional_parameters"], **options}
        if dependency:
            extra.update({"dependency": dependency, "kill-on-invalid-dep": "yes"})
        command = shell if count == 0 else f"exec {self.command} {shell}"
        changed: dict[str, Any] = {"job_name": name, "additional_parameters": extra}
        if count:
            changed.update(map_count=count, array_parallelism=parallel or count)
        before = self.parameters
        self.parameters = {**before, **changed}
        try:
            text = self._make_submission_file_text(command, "")
        finally:
            self.parameters = before
        script = self.folder / "script.sh"
        script.write_text(text, encoding="utf-8")
        try:
            output = ask(*_shielded(extra), *self._make_submission_command(script))
            return "" if "test-only" in extra else str(self._get_job_id_from_submission_command(output))
        except FailedSubmissionError:
            raise SlurmError(f"sbatch gave no job id but said: {' '.join(output.split())}") from None
        finally:
            script.unlink(missing_ok=True)


def parameters(profile: Profile) -> dict[str, Any]:
    """Return a profile in submitit's words."""
    plain: dict[str, Any] = {
        key: getattr(profile, key)
        for key in ("partition", "account", "qos", "constraint", "mem", "gpus_per_node")
        if getattr(profile, key) is not None
    }
    extra: dict[str, object] = {key.replace("_", "-"): value or True for key, value in profile.sbatch.items()}
    extra["requeue"] = True
    plain["time"] = max(1, int(profile.minutes)) if profile.minutes is not None else 0  # 0: no limit
    if profile.minutes is not None:
        extra["signal"] = f"B:{SIGNAL}@{profile.notice}"
    return {
        **plain,
        "cpus_per_task": profile.cpus_per_task,
        "nodes": 1,
        "ntasks_per_node": 1,
        "setup": [*profile.setup, *_exports()],
        "stderr_to_stdout": True,
        "use_srun": False,
        "wckey": None,
        "additional_parameters": extra,
    }


def _exports() -> list[str]:
    """Return shell lines that hand our own settings on, where Slurm does not hand on the environment."""
    ours = sorted(name for name in os.environ if name.startswith("ADVBENCH_"))
    return [f"export {name}={shlex.quote(os.environ[name])}" for name in ours]


def _shielded(options: Mapping[str, object]) -> list[str]:
    """Return a prefix that takes $SBATCH_… out of the environment: they would overrule what is in the script."""
    ours = {"SBATCH_ARRAY_INX", "SBATCH_JOB_NAME", "SBATCH_TIMELIMIT", "SBATCH_PARTITION", "SBATCH_SIGNAL"}
    ours |= {"SBATCH_NO_REQUEUE", "SBATCH_OPEN_MODE", "SBATCH_OUTPUT", "SBATCH_ERROR", "SBATCH_REQUEUE"}
    ours |= {f"SBATCH_{key.upper().replace('-', '_')}" for key in options}
    return ["env", *(f"--unset={name}" for name in sorted(ours) if name in os.environ)]
