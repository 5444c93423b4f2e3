"""Amount, rate and time left, in words."""

from __future__ import annotations

import pytest

from janus_core import TransferPace
from janus_core.downloads.pace import in_time, in_units

GB = 10**9


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (34_600_000, "35 MB"), (4_178_595_094, "4.18 GB")],
)
def test_bytes_are_said_in_the_largest_unit(count: int, said: str) -> None:
    assert in_units(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (84, "1 min 24 s"),
        (3599.9, "1 h 00 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_time_is_said_as_a_person_says_it(seconds: float, said: str) -> None:
    assert in_time(seconds) == said


def test_the_first_report_knows_no_rate() -> None:
    assert TransferPace().report(GB, 4 * GB, 10.0) == "1.00 GB of 4.00 GB"


def test_a_rate_is_that_since_the_first_report() -> None:
    pace = TransferPace()
    pace.report(GB, 4 * GB, 10.0)
    assert pace.report(2 * GB, 4 * GB, 14.0) == "2.00 GB of 4.00 GB, 250 MB/s, 8 s left"


def test_an_old_pace_is_forgotten() -> None:
    pace = TransferPace()
    pace.report(0, 4 * GB, 0.0)
    pace.report(GB, 4 * GB, 1.0)  # fast, long ago
    pace.report(GB + 10**8, 4 * GB, 11.0)
    assert pace.report(GB + 2 * 10**8, 4 * GB, 16.0).startswith("1.20 GB of 4.00 GB, 20 MB/s, ")


def test_standing_still_has_no_time_left() -> None:
    pace = TransferPace()
    pace.report(GB, 4 * GB, 10.0)
    assert pace.report(GB, 4 * GB, 20.0) == "1.00 GB of 4.00 GB"
