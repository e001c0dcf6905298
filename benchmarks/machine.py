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
    cuda = f" and {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{_processor()}{cuda}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads; "
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"scikit-learn {sklearn.__version__}, skdec {skdec.__version__}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text()
        flags = set(text.split())
        for line in text.splitlines():
            if line.startswith("model name"):
                name = line.split(":")[1].strip()
                units = [u for u in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if u in flags]
                return f"{name} with {units[0] if units else 'neither AVX2 nor AVX512'}"
    return platform.processor() or platform.machine()
