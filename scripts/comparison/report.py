"""Tables of the figures: for a terminal, and as Markdown in docs/performance.md. Must not measure anything."""

import json
import os
import re
import statistics

from . import machine, pictures
from .figures import LABELS, Figures
from .goals import APPEND_GOAL, COLUMNS, FAILOVER, FLAT_GOAL

BEGIN, END = "<!-- scripts/compare writes from here -->", "<!-- to here -->"


class Table:
    """A heading, what is to be known about it, and rows of text; `picture` is a file's name."""

    def __init__(self, title, header, rows, note="", picture=None):
        self.title, self.header, self.rows, self.note, self.picture = title, header, rows, note, picture

    def text(self):
        rows = [[re.sub(r"\*\*", "", cell) for cell in row] for row in [self.header, *self.rows]]
        widths = [max(len(row[at]) for row in rows) for at in range(len(self.header))]
        lines = [self.title]
        for row in rows:
            first = row[0].ljust(widths[0])
            lines.append("  " + "  ".join([first, *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:]))]))
        return "\n".join(lines) + "\n"

    def markdown(self):
        lines = [f"### {self.title}", ""]
        lines += [self.note, ""] if self.note else []
        lines += [f"![{self.title}](performance/{self.picture})", ""] if self.picture else []
        lines += ["| " + " | ".join(self.header) + " |", "|---|" + "---:|" * (len(self.header) - 1)]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"


def number(value, digits=2):
    """To about so many digits that mean something; `–` for what was not measured."""
    if value is None:
        return "–"
    if value >= 100:
        whole = round(value)
        keep = max(0, len(str(whole)) - 3)
        return f"{round(whole, -keep):,}"
    return f"{value:.{1 if value >= 10 else digits}f}"


def _throughput(figures):
    header = ["commands a second", *(column.label for column in COLUMNS)]
    header += ["processor s per 100,000 SET (×64)", "disk bytes per SET (×64)"]
    header += ["as accounted"]
    rows = []
    for system in figures.systems():
        row = [LABELS[system], *(number(figures.median(system, c.name, "per_second")) for c in COLUMNS)]
        cpu = figures.median(system, "set64", "cpu_us")
        disk = figures.median(system, "set64", "disk_bytes")
        accounted = figures.median(system, "set64", "accounted_bytes")
        rows.append([*row, number(cpu and cpu / 10), number(disk), number(accounted)])
    row = ["**Quorate to one Redis**"]
    costs = [("set64", figure) for figure in ("cpu_us", "disk_bytes", "accounted_bytes")]
    for column, figure in [(c.name, "per_second") for c in COLUMNS] + costs:
        ratios = figures.ratios(column, figure)
        row.append(f"**{statistics.median(ratios):.2f}**" if ratios else "–")
    note = (
        "Processor time and bytes are those of all servers together; disk bytes are what the device was sent, beside them "
        "what the kernel says that the servers wrote (see the method). A GET of ZooKeeper is a `sync` and a `getData`, sent "
        "together; the others' are linearizable as they are (Redis's: of its one node)."
    )
    local = figures.median("zookeeper", "get64local", "per_second")
    note += f" Without `sync`, which may answer with old data, ZooKeeper gives {number(local)} a second." if local else ""
    return Table("Throughput and its cost", header, [*rows, row], note, "throughput.svg")


def _goals(figures):
    rows = []
    for label, ratios, goal, more in figures.goals():
        ratio = statistics.median(ratios)
        met = ratio >= goal if more else ratio <= goal
        spread = f"{min(ratios):.2f} – {max(ratios):.2f}"
        word = "at least" if more else "at most"
        rows.append([label, f"{ratio:.2f}", spread, f"{word} {goal:g}", "met" if met else "**not met**"])
    header = ["Quorate, 3 nodes, to one Redis", "ratio", "lowest – highest round", "goal", ""]
    return Table("Goals", header, rows, "Medians of the ratios of runs back to back.", "goals.svg")


def _latency(figures):
    header = ["microseconds"]
    for column in ("SET ×1", "SET ×64", "GET ×64"):
        header += [f"{column} p50", "p99", "p99.9"]
    rows = []
    for system in figures.systems():
        row = [LABELS[system]]
        for column in ("set1", "set64", "get64"):
            for figure in ("p50_us", "p99_us", "p999_us"):
                row.append(number(figures.median(system, column, figure)))
        rows.append(row)
    note = "Of a closed loop: the time from a client's request to its answer, with so many clients at once."
    return Table("Latency", header, rows, note, "latency.svg")


def _memory(figures):
    keys = max((entry["keys"] for entry in figures.memory), default=0)
    rows = []
    redis = figures.memory_of("redis")
    for system, label in LABELS.items():
        size = figures.memory_of(system)
        if size:
            per_key = f"{size / keys:,.0f}"
            rows.append([label, f"{size / (1 << 20):,.0f} MiB", per_key, f"{size / redis:.2f}" if redis else "–"])
    note = "Resident memory of the largest server, each key written once, once all is quiet again."
    return Table(f"Memory with {keys:,} keys", ["", "per node", "bytes per key", "to one Redis"], rows, note)


def _sweep(figures, sweep, title, unit, note, picture):
    names = {"set": "SET", "get": "GET", "append": "APPEND"}
    rows = []
    for step in figures.steps(sweep):
        for shape in figures.shapes(sweep, step):
            row = [f"{step:,}", f"{names[shape[0]]} ×{shape[1]}" + (f" × pipeline {shape[2]}" if shape[2] > 1 else "")]
            for figure in ("per_second", "cpu_us", "p50_us", "p99_us"):
                row.append(number(figures.swept(sweep, step, "quorate", figure, shape)))
            row.append(number(figures.swept(sweep, step, "redis", "cpu_us", shape)))
            row.append(number(figures.swept_ratio(sweep, step, "per_second", shape)))
            rows.append(row)
    header = [unit, "", "commands a second", "processor µs each", "p50 µs", "p99 µs", "Redis's processor µs", "to Redis"]
    return Table(title, header, rows, note, picture)


def _flat(figures, sweep, first=0):
    """The dearest step to the cheapest, by processor time, of each kind of work, from a step on."""
    lines = []
    for work in ("set", "get"):
        costs = {"quorate": [], "redis": []}
        for step in (step for step in figures.steps(sweep) if step >= first):
            for shape in figures.shapes(sweep, step):
                for system, found in costs.items():
                    cost = figures.swept(sweep, step, system, "cpu_us", shape)
                    if shape[0] == work and cost:
                        found.append(cost)
        if len(costs["quorate"]) > 1:
            ours, redis = (max(found) / min(found) for found in (costs["quorate"], costs["redis"]))
            met = "met" if ours <= FLAT_GOAL else "not met"
            lines.append(f"{work.upper()} {ours:.2f} (goal at most {FLAT_GOAL:g}: {met}; Redis {redis:.2f})")
    since = f" from {first} up" if first else ""
    return f"Processor time per command{since}, dearest step to cheapest: " + "; ".join(lines) + "." if lines else ""


def _append(figures):
    rows = []
    for step in figures.steps("append"):
        for shape in figures.shapes("append", step):
            row = ["empty" if step == 0 else f"{step >> 20} MiB"]
            for system in ("quorate", "redis"):
                for figure in ("p50_us", "p99_us", "cpu_us", "disk_bytes"):
                    row.append(number(figures.swept("append", step, system, figure, shape)))
            rows.append(row)
    shape = ("append", 1, 1)
    parts = []
    for figure, label in (("p50_us", "p50"), ("cpu_us", "processor time")):
        small, big = (figures.swept("append", step, "quorate", figure, shape) for step in (0, 7 << 20))
        if small and big:
            met = "met" if big / small <= APPEND_GOAL else "not met"
            parts.append(f"{label} {big / small:.2f} (goal at most {APPEND_GOAL:g}: {met})")
    header = ["100 bytes to a value of", "Quorate p50 µs", "p99 µs", "processor µs", "disk bytes"]
    header += ["Redis p50 µs", "p99 µs", "processor µs", "disk bytes"]
    note = "One client. The big value to the empty one: " + ", ".join(parts) + "."
    return Table("Appending", header, rows, note)


def _failover(entries):
    rows = []
    for kind, (label, what, goal) in FAILOVER.items():
        found = [entry for entry in entries if (entry["kind"], entry.get("what")) == (kind, what)]
        if found:
            median = statistics.median(entry["median_ms"] for entry in found)
            worst = max(entry["worst_ms"] for entry in found)
            count = sum(entry["rounds"] for entry in found)
            met = "met" if median <= goal else "**not met**"
            rows.append([label, f"{median:g} ms", f"{worst} ms", str(count), f"at most {goal} ms", met])
    quiet = [entry for entry in entries if entry["kind"] == "quiet"]
    if quiet:
        elections = sum(entry["election"] for entry in quiet)
        met = "met" if not elections else "**not met**"
        seconds = sum(entry["seconds"] for entry in quiet)
        rows.append([f"{seconds} s of full load without a fault", "–", "–", str(len(quiet)), "no election", met])
    header = ["what happens to the leader, under load", "median", "worst", "rounds", "goal", ""]
    return Table("Failover", header, rows, "Default settings; measured by `scripts/failover-bench`.")


def tables(figures):
    """All tables that there are figures for."""
    found = []
    if figures.cells:
        found += [_throughput(figures)]
    if figures.cells or figures.memory:
        found += [_goals(figures)]
    if figures.cells:
        found += [_latency(figures)]
    if figures.memory:
        found.append(_memory(figures))
    if figures.steps("keys"):
        note = "The same servers, filled up from step to step. " + _flat(figures, "keys")
        found.append(_sweep(figures, "keys", "From few keys to many", "keys", note, "keys.svg"))
    if figures.steps("connections"):
        note = "Each connection has one command under way: what arrives together is done together, so that few are dear. "
        note += _flat(figures, "connections") + " " + _flat(figures, "connections", 64)
        found.append(_sweep(figures, "connections", "Busy connections", "connections", note, "connections.svg"))
    if figures.steps("idle"):
        note = "64 are busy, the others say nothing. " + _flat(figures, "idle")
        found.append(_sweep(figures, "idle", "Idle connections", "connections", note, None))
    if figures.steps("nodes"):
        note = "All servers on this one machine: what more of them cost in all, not what they would on machines of their own."
        found.append(_sweep(figures, "nodes", "Five and seven nodes", "nodes", note, None))
    if figures.steps("append"):
        found.append(_append(figures))
    if figures.failover:
        found.append(_failover(figures.failover))
    return found


def conditions(runs):
    """Where and when, in a paragraph."""
    run = next((one for one in runs if one["cells"]), runs[-1])
    here, settings = run["machine"], run["settings"]
    memory = here["memory_bytes"] / (1 << 30)
    dates = sorted(one["date"] for one in runs)
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    products = {"redis": "Redis", "etcd": "etcd", "zookeeper": "ZooKeeper"}
    versions = {name: version for one in runs for name, version in one["versions"].items()}
    beside = ", ".join(f"{label} {versions[name]}" for name, label in products.items() if name in versions)
    skipped = {f"{entry['system']} ({entry['why']})" for one in runs for entry in one["skipped"]}
    idle = min(one["idle"] for one in runs)
    cells = [cell for one in runs for cell in one["cells"] + one["sweeps"] if "others_share" in cell]
    others = f", {_share(cells):.0%} of them the kernel's and others' meanwhile" if cells else ""
    if idle < machine.QUIET:
        others += " (**a busy machine: no verdict here means anything**)"
    return (
        f"{when} UTC, {here['processor']}, {here['cores']} cores for servers and load together, {memory:.0f} GiB, Linux "
        f"{here['kernel']}, data on {here['disk']} where 4 KiB are synced in {here['sync_us']} µs (99th percentile "
        f"{here['sync_p99_us']} µs); at least {idle:.0%} of the processors idle before{others}. Quorate at {run['commit']}; {beside}. "
        f"Runs: {len(runs)}, rounds in each: {settings['rounds']}, of {settings['seconds']:g} s for each "
        f"cell, {settings['keys']:,} keys of 16 bytes, values of 100, load by `{settings['load']}`."
        + (f" Not measured: {'; '.join(sorted(skipped))}." if skipped else "")
    )


def _share(cells):
    return statistics.median(cell["others_share"] for cell in cells)


def text(runs):
    """For a terminal."""
    figures = Figures(runs)
    return "\n" + conditions(runs) + "\n\n" + "\n".join(table.text() for table in tables(figures))


def document(runs, root):
    """Puts tables and pictures in their places in docs/performance.md."""
    path = os.path.join(root, "docs", "performance.md")
    folder = os.path.join(root, "docs", "performance")
    os.makedirs(folder, exist_ok=True)
    figures = Figures(runs)
    drawn = pictures.draw(figures)
    for name, picture in drawn.items():
        with open(os.path.join(folder, name), "w") as file:
            file.write(picture)
    with open(os.path.join(folder, "figures.json"), "w") as file:
        file.write("[\n" + ",\n".join(_compact(run) for run in runs) + "\n]\n")
    parts = [conditions(runs) + "\n"]
    for table in tables(figures):
        table.picture = table.picture if table.picture in drawn else None
        parts.append(table.markdown())
    with open(path) as file:
        before, _, rest = file.read().partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{path} lacks the lines `{BEGIN}` and `{END}`")
    with open(path, "w") as file:
        file.write(f"{before}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}{after}")
    print(f"written: {path}, and {', '.join(sorted(drawn))}, figures.json beside it in performance/")


def _compact(run):
    """One run, a line for each cell, four digits of each figure."""

    def short(value):
        if isinstance(value, float):
            return float(f"{value:.4g}")
        return {name: short(inner) for name, inner in value.items()} if isinstance(value, dict) else value

    parts = []
    for name, value in run.items():
        if name in ("cells", "sweeps", "memory"):
            lines = ",\n".join("  " + json.dumps(short(cell)) for cell in value)
            parts.append(f'"{name}": [\n{lines}\n]' if value else f'"{name}": []')
        else:
            parts.append(f'"{name}": {json.dumps(short(value))}')
    return "{" + ",\n".join(parts) + "}"
