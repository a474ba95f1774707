"""Pictures of the figures, as SVG that follows the reader's light or dark. Must not know where they go."""

import html
import math
import statistics

from .goals import COLUMNS

WIDTH = 860
PLAIN = {
    "etcd": "etcd ×3",
    "zookeeper": "ZooKeeper ×3",
    "redis-wait": "Redis 1+2, WAIT 1",
    "redis": "Redis, one",
    "quorate": "Quorate ×3",
}
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; font-size: 13px; }
.quiet { fill: #57606a; }
.line { stroke: #d0d7de; stroke-width: 1; fill: none; }
.goal { stroke: #24292f; stroke-width: 2; }
.quorate { fill: #0969da; } .redis { fill: #8c959f; } .other { fill: #c3cad1; }
.met { fill: #1a7f37; } .missed { fill: #bc4c00; }
path.quorate, path.redis { fill: none; stroke-width: 2; }
path.quorate { stroke: #0969da; } path.redis { stroke: #8c959f; stroke-dasharray: 5 4; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .quiet { fill: #9198a1; } .line { stroke: #3d444d; } .goal { stroke: #e6edf3; }
.quorate { fill: #4493f8; } .redis { fill: #848d97; } .other { fill: #545d68; } .met { fill: #3fb950; }
.missed { fill: #f0883e; } path.quorate { stroke: #4493f8; } path.redis { stroke: #848d97; }
path.quorate, path.redis { fill: none; }
}"""


class Picture:
    """An SVG that grows downwards."""

    def __init__(self, title):
        self.title = title
        self.parts = []

    def text(self, x, y, words, style="", anchor="start"):
        words = html.escape(words)
        self.parts.append(f'<text x="{x:.0f}" y="{y:.0f}" class="{style}" text-anchor="{anchor}">{words}</text>')

    def bar(self, x, y, width, height, style):
        self.parts.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{max(1, width):.1f}" height="{height}" rx="2" class="{style}"/>'
        )

    def line(self, x1, y1, x2, y2, style="line"):
        self.parts.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" class="{style}"/>')

    def curve(self, points, style):
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path d="M{path}" class="{style}"/>')
        for x, y in points:
            self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" class="{style}"/>')

    def svg(self, height):
        title = html.escape(self.title)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
            f'height="{height:.0f}" role="img" aria-label="{title}">\n<title>{title}</title>\n<style>{STYLE}\n</style>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )


def _short(value):
    if value >= 1000:
        return f"{value / 1000:,.0f}k" if value >= 10_000 else f"{value / 1000:.1f}k"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _panels(picture, panels, systems):
    """Bars of all systems for each of the panels (title, {system: value}), two panels in a row. Gives the height."""
    half, bar, label, top = WIDTH / 2, 16, 128, 8
    height = 24 + len(systems) * (bar + 4) + 12
    for at, (title, values) in enumerate(panels):
        left = at % 2 * half + 8
        y = top + at // 2 * height + 14
        picture.text(left, y, title, "title")
        room = half - label - 70
        most = max(values.values(), default=1)
        for row, system in enumerate(systems):
            base = y + 8 + row * (bar + 4)
            picture.text(left + label - 8, base + 12, PLAIN[system], "quiet", "end")
            if system not in values:
                picture.text(left + label, base + 12, "–", "quiet")
                continue
            style = system if system in ("quorate", "redis") else "other"
            width = values[system] / most * room
            picture.bar(left + label, base, width, bar, style)
            picture.text(left + label + width + 6, base + 12, _short(values[system]))
    return top + math.ceil(len(panels) / 2) * height


def _columns(figures, figure, names):
    panels = []
    for column in COLUMNS:
        if column.name in names:
            values = {system: figures.median(system, column.name, figure) for system in figures.systems()}
            panels.append((column.label, {system: value for system, value in values.items() if value}))
    return panels


def throughput(figures):
    """Commands a second, and what they cost."""
    picture = Picture("Commands a second")
    panels = [(f"{t}, a second", v) for t, v in _columns(figures, "per_second", {c.name for c in COLUMNS})]
    panels += [(f"processor µs of all servers per {t}", v) for t, v in _columns(figures, "cpu_us", {"set64"})]
    return picture.svg(_panels(picture, panels, list(reversed(figures.systems()))))


def latency(figures):
    """Half and nearly all of the answers."""
    picture = Picture("Latency")
    panels = []
    pairs = zip(_columns(figures, "p50_us", {"set64", "get64"}), _columns(figures, "p99_us", {"set64", "get64"}))
    for half, most in pairs:
        panels += [(f"{half[0]}, p50, µs", half[1]), (f"{most[0]}, p99, µs", most[1])]
    return picture.svg(_panels(picture, panels, list(reversed(figures.systems()))))


def goals(figures):
    """Each ratio beside its goal, on one scale: how far from the goal, in halvings and doublings."""
    picture = Picture("Quorate's three nodes to one Redis, and the goals")
    rows = figures.goals()
    left, right, y = 300, WIDTH - 150, 34
    middle, reach = (left + right) / 2, math.log(4)
    picture.text(middle, 16, "goal", "quiet", "middle")
    picture.text(left, 16, "← worse", "quiet")
    picture.text(right, 16, "better →", "quiet", "end")
    for label, ratios, goal, more in rows:
        ratio = statistics.median(ratios)
        good = ratio / goal if more else goal / ratio
        place = middle + max(-1, min(1, math.log(good) / reach)) * (right - left) / 2
        picture.text(left - 12, y + 12, label, "", "end")
        picture.bar(min(place, middle), y, abs(place - middle), 16, "met" if good >= 1 else "missed")
        word = "≥" if more else "≤"
        picture.text(right + 12, y + 12, f"{ratio:.2f}  (goal {word} {goal:g})")
        y += 24
    picture.line(middle, 22, middle, y, "goal")
    return picture.svg(y + 8)


def sweep(figures, name, unit):
    """Processor time per command over the steps, for each kind of work."""
    picture = Picture(f"Processor time per command over the number of {unit}")
    steps = [step for step in figures.steps(name) if step > 0]
    height = 230
    for at, work in enumerate(("set", "get")):
        curves = {}
        for system in ("redis", "quorate"):
            points = []
            for step in steps:
                for shape in figures.shapes(name, step):
                    value = figures.swept(name, step, system, "cpu_us", shape)
                    if shape[0] == work and value:
                        points.append((step, value))
            curves[system] = points
        _plot(picture, at * WIDTH / 2, height, f"{work.upper()}: processor µs each, by {unit}", steps, curves)
    return picture.svg(height)


def _plot(picture, left, height, title, steps, curves):
    inner, right, top, bottom = left + 48, left + WIDTH / 2 - 84, 34, height - 28
    picture.text(left + 8, 18, title, "title")
    values = [value for points in curves.values() for _, value in points]
    if not values or len(steps) < 2:
        return
    most = max(values) * 1.1
    span = math.log(steps[-1] / steps[0])

    def place(step, value):
        across = math.log(step / steps[0]) / span
        return inner + across * (right - inner), bottom - value / most * (bottom - top)

    for part in range(5):
        y = bottom - part / 4 * (bottom - top)
        picture.line(inner, y, right, y)
        picture.text(inner - 6, y + 4, _short(most * part / 4), "quiet", "end")
    for step in steps:
        picture.text(place(step, 0)[0], bottom + 18, _steps(step), "quiet", "middle")
    above = None
    # From the top down, so that no name is written over another.
    for system, points in sorted(curves.items(), key=lambda curve: -curve[1][-1][1] if curve[1] else 0):
        if points:
            picture.curve([place(*point) for point in points], system)
            x, y = place(*points[-1])
            above = y if above is None else max(y, above + 14)
            picture.text(x + 8, above + 4, PLAIN[system])


def _steps(step):
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if step >= size:
            return f"{step / size:g}{letter}"
    return str(step)


def draw(figures):
    """All pictures that there are figures for, by file name."""
    drawn = {}
    if figures.cells:
        drawn = {"throughput.svg": throughput(figures), "goals.svg": goals(figures), "latency.svg": latency(figures)}
    for name, unit in (("keys", "keys"), ("connections", "connections")):
        if figures.steps(name):
            drawn[f"{name}.svg"] = sweep(figures, name, unit)
    return drawn
