"""An experiment called like a library, in the folder where one stands, breaks no import."""


def test_files_named_after_libraries_stand_in_for_none(counting, command, tmp_path):
    for name in ("torch", "json", "models", "pandas"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadow')\n")
    (tmp_path / "torch.py").write_text(counting.read_text())
    code, out, err = command("run", "torch.py")
    assert (code, err.count("shadow")) == (0, 0)
    assert out.splitlines()[-1].startswith("runs/torch/")
