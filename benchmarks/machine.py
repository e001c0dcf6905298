"""What the figures were measured on, in one line."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import sklearn
import torch

import skdec


def describe_machine() -> str:
    """Processor, cores and versions."""
    return (
        f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads; "
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"scikit-learn {sklearn.__version__}, skdec {skdec.__version__}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                amx = " with AMX" if "amx_bf16" in info.read_text() else ""
                return line.split(":")[1].strip() + amx
    return platform.processor() or platform.machine()
