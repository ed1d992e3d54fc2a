"""One plot as a file of its own: SVG that carries its style, light and dark, or PNG drawn without a browser."""

import re
from functools import cache
from html import escape
from importlib import resources
from pathlib import Path

FONTS = "'DejaVu Sans', 'Noto Sans', 'Segoe UI', Roboto, Arial, sans-serif"
_SANS = "DejaVu Sans"
"""What the renderer takes for ``sans-serif``; without it, only a font of that very name would do."""
# Two pixels a unit, for screens of double density and for print. At 1 letters blur there, at 4 there are four times as
# many pixels.
PNG_ZOOM = 2.0
TITLE, MARGIN = 24.0, 10.0
_ROOT = re.compile(r":root\s*\{([^}]*)\}")
_VARIABLE = re.compile(r"(--[\w-]+):\s*([^;]+);")
_RULE = re.compile(r"(\.plot[^{}]*)\{([^}]*)\}")
_USE = re.compile(r"var\((--[\w-]+)\)")


class NoDrawing(ValueError):
    """A plot that cannot be written as asked; the message says what to do."""


def svg_file(plot: str, heading: str = "", *, dark: bool = False) -> str:
    """Return the first plot of a figure as an SVG document whose colours are plain values, for every reader of SVG.

    It follows the reader's light or dark setting, unless ``dark`` asks for dark alone. A ``heading`` stands above the
    plot, with the plot's own title.
    """
    first, last = plot.find("<svg"), plot.find("</svg>")
    if first < 0:
        raise NoDrawing("there is nothing to draw: no window of this subject had enough rows")
    drawing = plot[first : last + len("</svg>")]
    body = drawing.index(">") + 1
    width, height = (float(x) for x in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing)[0])
    # Title and description stand in one element, with a full stop between them (page.axes).
    title = re.findall(r"<title>([^<]*?)[.] ", drawing)
    words = (
        f'<text class="heading" x="{MARGIN:.0f}" y="17">{" · ".join([escape(heading), *title])}</text>'
        if heading
        else ""
    )
    top = TITLE if heading else 0.0
    size = f'viewBox="0 0 {width:.0f} {height + top:.0f}" width="{width:.0f}" height="{height + top:.0f}"'
    head = re.sub(r'viewBox="[^"]*"', size, drawing[:body], count=1)
    style = _style(dark=dark)
    if not dark:
        style += f"@media (prefers-color-scheme: dark) {{{_style(dark=True)}}}"
    paper = '<rect class="paper" x="0" y="0" width="100%" height="100%"/>'
    inner = drawing[body : -len("</svg>")]
    return f'{head}<style>{style}</style>{paper}{words}<g transform="translate(0 {top:.0f})">{inner}</g></svg>\n'


def write_plot_file(plot: str, path: Path, heading: str = "", *, dark: bool = False) -> None:
    """Write a plot as ``.svg`` or ``.png``, by the name's ending; raises ``NoDrawing`` where that cannot be."""
    match path.suffix.lower():
        case ".svg":
            path.write_text(svg_file(plot, heading, dark=dark), encoding="utf-8")
        case ".png":
            path.write_bytes(png_of(svg_file(plot, heading, dark=dark)))
        case other:
            raise NoDrawing(f"{path}: a plot is written as .svg or .png, not {other or 'without an ending'}")


def png_of(svg: str) -> bytes:
    """Return an SVG document as PNG, twice its size in pixels; raises ``NoDrawing`` without a renderer or a font."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise NoDrawing("PNG needs the extra plots: pip install 'stationkeeper[plots]'; or write .svg") from None
    # The renderer leaves the dark half of the style alone, and draws no letter, without a word, where there is no font.
    plain = re.sub(r"@media[^{]*\{.*?\}\}", "", svg, flags=re.DOTALL)
    root = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20">'
    letters = (f'{root}<text x="2" y="16" font-family="{FONTS}">{letter}</text></svg>' for letter in ("M", ""))
    seen, blank = (svg_to_bytes(svg_string=one, sans_serif_family=_SANS) for one in letters)
    if seen == blank:
        raise NoDrawing(f"this machine has none of {FONTS} (Debian: apt-get install fonts-dejavu-core); or write .svg")
    return bytes(svg_to_bytes(svg_string=plain, zoom=PNG_ZOOM, sans_serif_family=_SANS))


@cache
def _style(*, dark: bool) -> str:
    """The page's rules for plots with every variable put in."""
    css = resources.files("stationkeeper.page").joinpath("static", "page.css").read_text(encoding="utf-8")
    light_root, dark_root = (dict(_VARIABLE.findall(block)) for block in _ROOT.findall(css)[:2])
    values = {**light_root, **dark_root} if dark else light_root

    def plain(text: str) -> str:
        return _USE.sub(lambda use: values[use[1]].strip(), text)

    rules = [f"{selector.strip()}{{{plain(body).strip()}}}" for selector, body in _RULE.findall(css)]
    base = f".plot{{font-family:{FONTS};font-size:12px}}.paper{{fill:{values['--raised'].strip()}}}"
    base += f".heading{{font-size:12.5px;font-weight:bold;fill:{values['--ink'].strip()}}}"
    # The page's own font rule names fonts of the browser; a file goes with those that a renderer knows.
    kept = [rule for rule in rules if not rule.startswith(".plot{")]
    return "".join([base, *kept])
