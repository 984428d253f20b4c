"""The drawings of `graft demo --pictures`: two kinds, no two alike, the same in every run."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from deploy.cli import drawings


def test_drawings_are_files_in_a_folder_per_label_and_no_two_are_alike(tmp_path: Path) -> None:
    written = drawings.write(tmp_path, per_label=5, first_seed=0)
    assert [label for _, label in written] == ["thumbs_up"] * 5 + ["thumbs_down"] * 5
    assert all(path.parent.name == label for path, label in written)
    assert len({path.read_bytes() for path, _ in written}) == 10
    with Image.open(written[0][0]) as picture:
        assert picture.size == (192, 192)


def test_a_seed_draws_the_same() -> None:
    assert drawings.draw("thumbs_up", 3).tobytes() == drawings.draw("thumbs_up", 3).tobytes()
