"""What an example says that it prints, beside what it prints.

In the pages' Python blocks a comment with a number behind a `print(...)` is its output: words and signs as they stand,
numbers to a tolerance, since another processor rounds otherwise; "..." stands for anything. A comment without one is
a description.
"""

from __future__ import annotations

import ast
import re
import sys
import tokenize
from io import StringIO
from typing import Any

import pytest

NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?")
RELATIVE, PERCENT = 0.1, 8.0


class Shown:
    """`print` of a block of Python, that remembers which comments it did not equal."""

    def __init__(self, block: str) -> None:
        self.comments = comments_of_prints(block)
        self.wrong: list[str] = []

    def __call__(self, *values: Any, **options: Any) -> None:
        """Print, and compare with the comment of the line of the call."""
        written = StringIO()
        print(*values, **{"file": written, **options})
        sys.stdout.write(written.getvalue())
        comment = self.comments.get(sys._getframe(1).f_lineno)
        if comment is not None and not says(comment, written.getvalue()):
            self.wrong.append(f"the page says {comment!r}, and this came: {written.getvalue()!r}")


def comments_of_prints(block: str) -> dict[int, str]:
    """By the first line of each call of print, the comment with a number behind its last."""
    comments = {
        token.start[0]: token.string.removeprefix("#").strip()
        for token in tokenize.generate_tokens(StringIO(block).readline)
        if token.type == tokenize.COMMENT and NUMBER.search(token.string)
    }
    prints = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call) and _is_print(node)]
    return {node.lineno: comments[node.end_lineno] for node in prints if node.end_lineno in comments}


def says(comment: str, output: str) -> bool:
    """Whether the comment tells this output."""
    said, came = " ".join(comment.split()), " ".join(output.split())
    words = r".*".join(_pattern(part) for part in said.split("..."))
    found = re.fullmatch(words, came)
    if found is None:
        return False
    percent = "%" in said
    pairs = zip(NUMBER.findall(said), found.groups(), strict=True)
    return all(_close(_value(one), _value(other), percent=percent) for one, other in pairs)


def _is_print(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "print"


def _pattern(said: str) -> str:
    return f"({NUMBER.pattern})".join(re.escape(words) for words in NUMBER.split(said))


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def _close(one: float, other: float, *, percent: bool) -> bool:
    return one == pytest.approx(other, rel=RELATIVE, abs=PERCENT if percent else 1e-9)
