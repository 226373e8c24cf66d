"""Precision of training and peak memory, as the hardware decides them."""

import logging
import sys
from pathlib import Path
from typing import Literal

import torch

log = logging.getLogger(__name__)


def precision(device: torch.device, wanted: Literal["fp32", "bf16"]) -> str:
    """Return how networks are computed while training: "bf16 autocast" if wanted and the device computes in it."""
    return "bf16 autocast" if wanted == "bf16" and _computes_in_bf16(device) else "fp32"


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    # Without such instructions bf16 is emulated, several times slower than fp32.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())  # noqa: SLF001 (no public name)


class PeakMemory:
    """Peak memory since construction, in bytes: of the device on a GPU, of the process on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:  # Linux forgets the high-water mark of the process on request; elsewhere it covers its whole life
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            log.debug("the peak memory covers the whole life of this process")

    def bytes(self) -> int:
        """Return the peak so far."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return _process_peak()


def _process_peak() -> int:
    """Return the peak memory of this process; psutil knows it on Windows alone, `resource` knows no reset."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil  # noqa: PLC0415 (a dependency on Windows alone)

        return int(psutil.Process().memory_info().peak_wset)
    import resource  # noqa: PLC0415 (there is none on Windows)

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
