"""Progress lines of the preparation of a data set."""

import pytest

from runner.data import progress


def test_items_pass_in_order_and_lines_report_the_number_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # the start, then the time after each item; lines are due at 5 s and 5 s after the previous line
    now = iter([0.0, 1.0, 6.0, 7.0, 12.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    assert list(
        progress.counted(iter("abcd"), 4, "decoding 4 images, once, into [FILE]", "images")
    ) == ["a", "b", "c", "d"]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "decoding 4 images, once, into [FILE] …",
        "decoding 4 images, once, into [FILE]: 2/4 images, 6 s, about 6 s left",
        "decoding 4 images, once, into [FILE]: 4/4 images, 12 s, about 0 s left",
    ]


def test_the_title_is_printed_before_the_first_item(capsys: pytest.CaptureFixture[str]) -> None:
    def made() -> object:
        assert capsys.readouterr().err == "listing …\n"
        yield 1

    assert list(progress.counted(made(), 1, "listing", "folders")) == [1]
