"""How fast a download goes and how long it will take, in words for a person."""

from __future__ import annotations

from collections import deque

_WINDOW_S = 5.0
_UNITS = ((1e9, "GB", 2), (1e6, "MB", 0), (1e3, "kB", 0))
_MINUTE_S = 60
_HOUR_S = 3600


class TransferPace:
    """The pace of the last seconds; bytes that were there before the first report do not count as fast."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def report(self, done: int, total: int, now_s: float) -> str:
        """Take how much has arrived and return amount, rate and time left, as far as they are known.

        Args:
            done: bytes there.
            total: bytes in all.
            now_s: any clock that never goes back.
        """
        self._seen.append((now_s, done))
        while len(self._seen) > 2 and now_s - self._seen[1][0] >= _WINDOW_S:
            self._seen.popleft()
        amount = f"{in_units(done)} of {in_units(total)}"
        first_s, first = self._seen[0]
        if now_s <= first_s or done <= first:
            return amount
        rate = (done - first) / (now_s - first_s)
        return f"{amount}, {in_units(rate)}/s, {in_time((total - done) / rate)} left"


def in_units(count: float) -> str:
    """Return bytes in the largest fitting unit of thousands."""
    for size, unit, digits in _UNITS:
        if count >= size:
            return f"{count / size:.{digits}f} {unit}"
    return f"{count:.0f} B"


def in_time(seconds: float) -> str:
    """Return a time as a person says it: seconds, minutes and seconds, or hours and minutes."""
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02} s"
    return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S:02} min"
