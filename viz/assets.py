"""Scripts and styles that a page needs, put beside it so that it opens anywhere."""

import os
from importlib.util import find_spec
from pathlib import Path

STATIC = Path(__file__).parent / "static"
"""What is shipped: our own files, and the vendored ones listed in `vendored.json`."""

_SHIPPED = {
    "pico.min.css": "pico/pico.min.css",
    "tabulator.min.css": "tabulator/tabulator.min.css",
    "tabulator.min.js": "tabulator/tabulator.min.js",
    "page.css": "page.css",
    "page.js": "page.js",
    "gallery.js": "gallery.js",
}
_INSTALLED = {
    "circuitsvis.js": ("circuitsvis", "dist/cdn/iife.js"),
    "plotly.js": ("plotly", "package_data/plotly.min.js"),
}


def place(folder: Path, names: list[str], shared: Path | None = None) -> None:
    """Put assets into `folder`, as hard links to `shared` where that is given and possible."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        content = _content(name)
        if shared is None:
            _write(folder / name, content)
            continue
        shared.mkdir(parents=True, exist_ok=True)
        _write(shared / name, content)
        _link(shared / name, folder / name)


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
    if path.exists() and path.read_bytes() == content:
        return
    new = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    new.write_bytes(content)
    os.replace(new, path)


def _link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`; a copy where the file system has no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        target.write_bytes(source.read_bytes())
