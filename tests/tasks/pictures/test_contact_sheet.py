import numpy as np
import pytest
from PIL import Image

from spinmeround.tasks.pictures.contact_sheet import SheetStyle, contact_sheet, save_contact_sheet, side_by_side

STYLE = SheetStyle(columns=3, cell=32, gap=4, font=8)


def pictures(count: int) -> np.ndarray:
    return np.stack([np.full((32, 32, 3), 10 * index, np.uint8) for index in range(count)])


def test_pictures_are_placed_row_by_row_unchanged():
    """Pictures of the cell's size keep their pixels; with three columns, the fifth is in the second row."""
    sheet = np.asarray(contact_sheet(pictures(5), [str(index) for index in range(5)], style=STYLE))
    step = STYLE.cell + STYLE.gap
    assert sheet.shape[1] == STYLE.gap + 3 * step
    for index in range(3):
        x = STYLE.gap + index * step
        np.testing.assert_array_equal(sheet[4:36, x : x + 32], pictures(5)[index])
    second_row = sheet[36:, STYLE.gap + step : STYLE.gap + step + 32]
    assert (second_row == 40).all(axis=(1, 2)).sum() == 32


def test_captions_are_truncated_to_the_cell():
    """A caption wider than its cell does not overlap the next one."""
    bare = np.asarray(contact_sheet(pictures(2), ["", ""], style=STYLE))
    captioned = np.asarray(contact_sheet(pictures(2), ["procedural-000123", ""], style=STYLE))
    changed = (bare != captioned).any(axis=(0, 2)).nonzero()[0]
    assert STYLE.gap <= changed.min()
    assert changed.max() <= STYLE.gap + STYLE.cell


def test_sheets_are_deterministic():
    """Two sheets of the same pictures are equal."""
    first, second = (contact_sheet(pictures(4), ["a\nb"] * 4, title="heads", style=STYLE) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("captions", [[], ["one"]])
def test_wrong_number_of_captions_is_refused(captions: list[str]):
    """The error has both numbers."""
    with pytest.raises(ValueError, match=rf"captions: .* got {len(captions)} for 2 pictures"):
        contact_sheet(pictures(2), captions)


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_saved_sheet_reads_back_exactly(suffix: str, tmp_path):
    """Both formats are lossless."""
    sheet = contact_sheet(pictures(2), ["a", "b"], style=STYLE)
    save_contact_sheet(tmp_path / f"sheet{suffix}", sheet)
    assert Image.open(tmp_path / f"sheet{suffix}").convert("RGB").tobytes() == sheet.tobytes()


def test_unknown_suffix_is_refused(tmp_path):
    """The error names the allowed suffixes."""
    with pytest.raises(ValueError, match=r"sheet.bmp: .*\.png or \.webp"):
        save_contact_sheet(tmp_path / "sheet.bmp", contact_sheet(pictures(1), ["a"]))


def test_side_by_side_keeps_the_order():
    """Two pictures become one row, the first on the left."""
    row = side_by_side(pictures(2))
    assert row.shape == (32, 64, 3)
    assert (row[:, :32].max(), row[:, 32:].min()) == (0, 10)
