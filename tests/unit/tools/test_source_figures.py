"""Figures about source, on files small enough to count by hand."""

from __future__ import annotations

import textwrap

import pytest

from tools.duplication import duplicated_share
from tools.source_figures import functions_of, has_reason, measure

PLAIN = "x = 1\n"


def body(source: str) -> str:
    return textwrap.dedent(source).lstrip("\n")


def only_function(source: str) -> int:
    [function] = [one for one in functions_of(body(source), "f.py") if one.place == "f.py:f"]
    return function.complexity


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("return a and b or c", 1),  # boolean operators are no branches
        ("return [x for x in a if x]", 1),
        ("if a:\n    return b", 2),
        ("if a:\n    pass\nelif b:\n    pass\nelse:\n    pass", 3),
        ("for x in a:\n    pass\nelse:\n    pass", 3),
        ("while a:\n    pass", 2),
        ("try:\n    a\nexcept OSError:\n    pass\nexcept ValueError:\n    pass\nelse:\n    b", 4),
        ("match a:\n    case 1:\n        pass\n    case 2:\n        pass", 3),
        ("def g():\n    if a:\n        pass", 3),
    ],
)
def test_complexity_is_what_linters_count(lines: str, expected: int) -> None:
    assert only_function("def f():\n" + textwrap.indent(lines, "    ")) == expected


def test_functions_are_measured_from_def_to_their_last_line() -> None:
    source = body(
        """
        class A:
            @property
            def f(self):
                def g():
                    return 1

                return g
        """
    )
    assert {one.place: one.lines for one in functions_of(source, "a.py")} == {"a.py:f": 5, "a.py:g": 2}


def test_a_function_over_the_limit_is_named() -> None:
    branches = "".join(f"    if a == {number}:\n        pass\n" for number in range(10))
    assert measure({"a.py": f"def f(a):\n{branches}"}).complex_functions == ("a.py:f",)
    fewer = branches.replace("    if a == 0:\n        pass\n", "")
    assert measure({"a.py": f"def f(a):\n{fewer}"}).complex_functions == ()


def test_lengths_leave_empty_files_out() -> None:
    sources = {f"{count}.py": PLAIN * count for count in range(11)}
    figures = measure(sources)
    assert (figures.files, figures.lines, figures.longest_file) == (10, 55, (10, "10.py"))
    assert (figures.median_file, figures.ninetieth_file) == (5.5, 9)


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(ValueError, match="every file is empty"):
        measure({"a.py": "\n"})


def test_comments_and_silencers_are_counted_apart() -> None:
    source = body(
        """
        # why
        a = 1  # (b, c)
        b = a  # noqa: X1
        c = "# no comment"
        d = c  # type: ignore[y]  # ndim narrows no type
        """
    )
    figures = measure({"a.py": source})
    assert (figures.comments, figures.whole_line_comments) == (2 / 5, 1 / 5)
    assert (figures.silencers, figures.bare_silencers, figures.silencers_per_1000) == (2, 1, 400)


@pytest.mark.parametrize(
    ("silencer", "expected"),
    [
        ("# noqa: E1", False),
        ("# noqa: E1, E2", False),
        ("# noqa: E1 - it is read below", True),
        ("# type: ignore[no-any]", False),
        ("# type: ignore[no-any]  # torch says Any", True),
        ("# type: ignore[no-any] # noqa: E1 - both for tests", True),
    ],
)
def test_a_reason_stands_behind_its_silencer(silencer: str, expected: bool) -> None:
    assert has_reason(silencer) == expected


# duplication

SIX = "a\nb\nc\nd\ne\nf\n"


def test_six_equal_lines_elsewhere_are_duplicated_whatever_stands_between() -> None:
    other = "x\n    a\n\n    b\n    # why\n    c\n    d\n    e\n    f\ny\n"
    assert duplicated_share({"one.py": SIX, "two.py": other}) == 12 / 14


@pytest.mark.parametrize("other", ["a\nb\nc\nd\ne\n", "a\nb\nc\nd\ne\nF\n"])
def test_fewer_equal_lines_are_not(other: str) -> None:
    assert duplicated_share({"one.py": SIX, "two.py": other}) == 0


def test_a_file_can_repeat_itself() -> None:
    assert duplicated_share({"one.py": SIX + "x\n" + SIX}) == 12 / 13


def test_no_lines_are_no_share() -> None:
    assert duplicated_share({"one.py": "# nothing\n"}) == 0
