import pytest

from prompts.texts import shipped_texts, texts_in


def test_at_least_24_texts_of_several_kinds_and_none_twice() -> None:
    texts = shipped_texts()
    assert len(texts) >= 24
    assert len({text.kind for text in texts}) >= 8
    assert len({text.text for text in texts}) == len(texts)
    assert all(text.text == text.text.strip() for text in texts)


def test_the_first_texts_are_of_different_kinds() -> None:
    assert len({text.kind for text in shipped_texts()[:8]}) == 8


def test_a_file_is_read_line_by_line(tmp_path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("Better safe than\n\n  \n万 is one\n", encoding="utf-8")
    assert [text.text for text in texts_in(path)] == ["Better safe than", "万 is one"]
    assert {text.kind for text in texts_in(path)} == {"given"}


def test_a_file_without_text_is_refused(tmp_path) -> None:
    path = tmp_path / "empty.txt"
    path.write_text("\n \n")
    with pytest.raises(ValueError, match=r"empty\.txt"):
        texts_in(path)


def test_a_byte_order_mark_is_no_text_and_only_newlines_end_a_line(tmp_path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes("\ufeffBetter safe than\r\na\u2028b\x0bc\x85d\rstill b\n".encode())
    assert [text.text for text in texts_in(path)] == [
        "Better safe than",
        "a\u2028b\x0bc\x85d\rstill b",
    ]


def test_a_file_that_is_not_utf8_is_refused_with_the_place(tmp_path) -> None:
    path = tmp_path / "latin1.txt"
    path.write_bytes("Guten Tag\nschön\n".encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"latin1\.txt: not UTF-8 \(byte 0xF6 in line 2, byte 4 of"
    ):
        texts_in(path)
    for other in ("none.txt", "."):
        with pytest.raises(ValueError, match="cannot be read"):
            texts_in(tmp_path / other)
