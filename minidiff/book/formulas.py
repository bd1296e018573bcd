r"""Formulas as small pictures: TeX set by matplotlib, which minidiff has anyway, so a page needs no script and no font.

matplotlib's mathtext knows most of TeX's mathematics. `plain` writes in other words what it does not know and the book uses:
brackets of a stated size, \underbrace, \text, lines that stand under each other. What is left is an error that names the
formula, not a picture of half of it.
"""

from __future__ import annotations

import base64
import functools
import html
import io
import re

from ..errors import BadInput

POINTS = 12.0  # that formulas are set in; the page scales them with its text
REWRITTEN = (
    (r"\\(?:[bB]igg?)[lrm]?(?![a-zA-Z])", ""),  # brackets keep their own size
    (r"\\mid(?![a-zA-Z])", r"\\,|\\,"),
    (r"\\tfrac", r"\\frac"),
    (r"\\(?:text|operatorname)\{", r"\\mathrm{"),
    (r"\\frac\s*(\w)\s*(\w)", r"\\frac{\1}{\2}"),
    (r"\\(sqrt|mathbb|mathcal)\s+(\w)", r"\\\1{\2}"),
    (r"\\(?:begin|end)\{\w+\}", ""),
    (r"&", ""),
    (r"\^\\top(?![a-zA-Z])", r"^T"),
    (r"\\(le|ge|ne)(?![a-zA-Z])", r"\\\1q"),
)


def lines_of(tex: str) -> list[str]:
    """A displayed formula's lines: it breaks at an empty line and at two backslashes."""
    parts = [part for block in re.split(r"\n\s*\n", tex) for part in re.split(r"\\\\(?:\[\w+\])?", block)]
    return [" ".join(part.split()) for part in parts if part.strip(" \n&")]


def plain(tex: str) -> str:
    r"""The formula in the words that mathtext knows; what stands below an \underbrace follows in brackets."""
    tex = " ".join(tex.split())
    while found := re.search(r"\\underbrace\{", tex):
        inside, after = _group(tex, found.end() - 1)
        below, rest = _group(tex, after + 1) if tex[after : after + 2] == "_{" else ("", after)
        tex = tex[: found.start()] + inside + (rf"\;({below})" if below else "") + tex[rest:]
    for pattern, new in REWRITTEN:
        tex = re.sub(pattern, new, tex)
    return re.sub(r"\\mathrm\{([^{}]*)\}", lambda m: r"\mathrm{" + m[1].strip().replace(" ", r"\ ") + "}", tex)


def _group(tex: str, start: int) -> tuple[str, int]:
    """What stands in the braces that open at `start`, and where they have closed."""
    depth = 0
    for i in range(start, len(tex)):
        depth += {"{": 1, "}": -1}.get(tex[i], 0)
        if depth == 0:
            return tex[start + 1 : i], i + 1
    raise BadInput(f"book: a brace stays open in the formula {tex}")


@functools.cache
def picture(tex: str) -> str:
    """One line of a formula as an <img> that is as high as its text, and says its TeX to those who cannot see it. Raises BadInput."""
    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import math_to_image

    drawn = io.BytesIO()
    with matplotlib.rc_context({"mathtext.fontset": "stix", "svg.hashsalt": "minidiff", "figure.facecolor": "none", "savefig.facecolor": "none"}):
        try:
            depth = math_to_image(f"${plain(tex)}$", drawn, prop=FontProperties(size=POINTS), dpi=72, format="svg")
        except ValueError as error:
            raise BadInput(f"book: the formula {tex} cannot be set: {str(error).strip().splitlines()[-1]}") from None
    svg = drawn.getvalue()
    height = float(re.search(rb'<svg [^>]*height="([\d.]+)pt"', svg)[1])
    style = f"height:{height / POINTS:.3f}em;vertical-align:{-depth / POINTS:.3f}em"
    return f'<img class="tex" alt="{html.escape(tex)}" style="{style}" src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}">'
