"""Scripts and styles that a page needs, put beside it so that it opens anywhere."""

import os
from importlib.util import find_spec
from pathlib import Path

from viz.files import remove, write_atomically

STYLES = ["pico.min.css", "page.css"]
"""Of every page."""
STATIC = Path(__file__).parent / "static"
"""What is shipped: our own files, and the vendored ones listed in `vendored.json`."""

_SHIPPED = {
    "pico.min.css": "pico/pico.min.css",
    "tabulator.min.css": "tabulator/tabulator.min.css",
    "tabulator.min.js": "tabulator/tabulator.min.js",
    "page.css": "page.css",
    "page.js": "page.js",
    "gallery.js": "gallery.js",
    "flow.js": "flow.js",
    "compare.js": "compare.js",
    "decoded.js": "decoded.js",
    "heads.js": "heads.js",
    "maps.js": "maps.js",
}
_INSTALLED = {
    "circuitsvis.js": ("circuitsvis", "dist/cdn/iife.js"),
    "plotly.js": ("plotly", "package_data/plotly.min.js"),
}


def place(folder: Path, names: list[str], shared: Path | None = None) -> None:
    """Put assets into `folder`, as hard links to `shared` where that is given and possible."""
    _make(folder)
    for name in names:
        content = _content(name)
        if shared is None:
            _write(folder / name, content)
            continue
        _make(shared)
        _write(shared / name, content)
        _link(shared / name, folder / name)


def _make(folder: Path) -> None:
    """Make a folder; a link in its place is taken away, not followed."""
    if folder.is_symlink():
        folder.unlink()
    folder.mkdir(parents=True, exist_ok=True)


def _content(name: str) -> bytes:
    """An asset's bytes, without the line that names a source map, which no page has beside it."""
    if name in _SHIPPED:
        return (STATIC / _SHIPPED[name]).read_bytes()
    package, inside = _INSTALLED[name]
    spec = find_spec(package)  # finds the folder without importing what is in it
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed: a figure of this page needs it")
    content = Path(spec.submodule_search_locations[0], inside).read_bytes()
    head, mark, _ = content.rpartition(b"//# sourceMappingURL=")
    return head if mark else content


def _write(path: Path, content: bytes) -> None:
    if path.is_symlink() or not path.is_file() or path.read_bytes() != content:
        write_atomically(path, content)


def _link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`; a copy where the file system has no hard links."""
    remove(target)
    try:
        os.link(source, target)
    except OSError:
        write_atomically(target, source.read_bytes())
