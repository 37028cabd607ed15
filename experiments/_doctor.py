"""What this machine has and lacks for running experiments and drawing pages."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"
CJK_FONT = re.compile("Noto Sans CJK|Source Han Sans|WenQuanYi|PingFang|Microsoft YaHei")


@dataclass(frozen=True)
class Finding:
    """One line of the report; what is `needed` and not `ok` makes the command fail."""

    ok: bool
    what: str
    needed: bool = False


def findings() -> Iterator[Finding]:
    """Everything that was looked at, in order."""
    python = sys.version_info >= (3, 11)
    yield Finding(python, f"Python {sys.version.split()[0]}, 3.11 or later is needed", needed=True)
    yield from _packages()
    yield _accelerator()
    yield _font()
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    yield Finding(bool(browser), f"browser for the page tests: {browser or 'no chromium found'}")
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield Finding(free > 2, f"{free:.0f} GiB free in this folder; models need up to 2", needed=True)


def _packages() -> Iterator[Finding]:
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", CONSTRAINTS.read_text(), re.MULTILINE))
    different = []
    for name, wanted in locked.items():
        try:
            found = version(name).split("+")[0]
        except PackageNotFoundError:
            continue
        if found != wanted:
            different.append(f"{name} {found} (locked: {wanted})")
    yield Finding(not different, "packages: " + ("; ".join(different) or "as constraints.txt says"))


def _accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding(True, f"accelerator: {torch.cuda.get_device_name(0)} (--device cuda)")
    if torch.backends.mps.is_available():
        return Finding(True, "accelerator: Apple GPU (--device mps)")
    return Finding(True, f"accelerator: none; {torch.get_num_threads()} CPU threads")


def _font() -> Finding:
    from matplotlib import font_manager

    names = sorted({f.name for f in font_manager.fontManager.ttflist if CJK_FONT.search(f.name)})
    missing = "none; Chinese tokens are shown as code points in static figures"
    return Finding(bool(names), f"CJK font: {names[0] if names else missing}")
