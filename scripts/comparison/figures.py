"""Medians and ratios of the figures of one run or of several. Must not know how they are shown."""

import statistics

from .goals import COLUMNS, COST_COLUMN, COSTS, MEMORY_GOAL

LABELS = {
    "etcd": "etcd, 3 nodes",
    "zookeeper": "ZooKeeper, 3 nodes",
    "redis-wait": "Redis, 1 + 2 replicas, WAIT 1",
    "redis": "Redis, **one** node",
    "quorate": "**Quorate, 3 nodes**",
}
SYSTEMS = list(LABELS)


class Figures:
    """All cells of some runs on one machine."""

    def __init__(self, runs):
        machines = {(run["machine"]["processor"], run["machine"]["cores"]) for run in runs}
        if len(machines) > 1:
            raise SystemExit(f"these runs are of different machines: {machines}")
        self.runs = runs
        self.cells = [dict(cell, run=number) for number, run in enumerate(runs) for cell in run["cells"]]
        self.sweeps = [dict(cell, run=number) for number, run in enumerate(runs) for cell in run["sweeps"]]
        self.failover = [entry for run in runs for entry in run.get("failover", [])]
        self.memory = [entry for run in runs for entry in run["memory"]]

    def systems(self):
        """Those that were measured, in the order of the tables."""
        there = {cell["system"] for cell in self.cells}
        return [system for system in SYSTEMS if system in there]

    def median(self, system, column, figure):
        """Of all rounds of all runs; None: not measured."""
        found = [cell.get(figure) for cell in self.cells if (cell["system"], cell["column"]) == (system, column)]
        return _median(found)

    def ratios(self, column, figure):
        """Quorate's figure to Redis's, of each pair that ran back to back."""
        return _ratios(
            [cell for cell in self.cells if cell["column"] == column], figure, lambda cell: (cell["run"], cell["round"])
        )

    def goals(self):
        """(what, ratios of all rounds, goal, whether more is better) of each goal that was measured."""
        found = []
        for column in COLUMNS:
            found.append((column.label, self.ratios(column.name, "per_second"), column.goal, True))
        for name, label, figure, goal in COSTS:
            if name != "p99get":
                found.append((label, self.ratios(COST_COLUMN[name], figure), goal, False))
        found.append((self.memory_label(), self.memory_ratios(), MEMORY_GOAL, False))
        return [goal for goal in found if goal[1]]

    def memory_label(self):
        keys = max((entry["keys"] for entry in self.memory), default=0)
        return f"memory per node, {keys:,} keys"

    def memory_of(self, system):
        """Bytes of the largest server; None: not measured."""
        found = [max(entry["bytes"]) for entry in self.memory if entry["system"] == system]
        return _median(found)

    def memory_ratios(self):
        ratios = []
        for run in self.runs:
            by_system = {entry["system"]: max(entry["bytes"]) for entry in run["memory"]}
            if "redis" in by_system and "quorate" in by_system:
                ratios.append(by_system["quorate"] / by_system["redis"])
        return ratios

    def steps(self, sweep):
        """What was gone through, ascending."""
        return sorted({cell["step"] for cell in self.sweeps if cell["sweep"] == sweep})

    def shapes(self, sweep, step=None):
        """(work, clients, pipeline) of a sweep, in the order they were run."""
        found = {}
        for cell in self.sweeps:
            if cell["sweep"] == sweep and step in (None, cell["step"]):
                found[cell["work"], cell["clients"], cell["pipeline"]] = True
        return list(found)

    def swept(self, sweep, step, system, figure, shape):
        """Median of one step; None: not measured."""
        return _median([cell.get(figure) for cell in self._swept(sweep, step, shape) if cell["system"] == system])

    def swept_ratio(self, sweep, step, figure, shape):
        """Quorate's to Redis's, median of the pairs."""
        return _median(_ratios(self._swept(sweep, step, shape), figure, lambda cell: (cell["run"], cell["round"])))

    def _swept(self, sweep, step, shape):
        def is_of(cell):
            return (cell["sweep"], cell["step"]) == (sweep, step) and _shape(cell) == shape

        return [cell for cell in self.sweeps if is_of(cell)]


def _median(found):
    """Not every load tells everything: what it does not tell is not measured."""
    there = [figure for figure in found if figure is not None]
    return statistics.median(there) if there else None


def _shape(cell):
    return cell["work"], cell["clients"], cell["pipeline"]


def _ratios(cells, figure, key):
    redis = {key(cell): cell.get(figure) for cell in cells if cell["system"] == "redis"}
    pairs = [(cell.get(figure), redis.get(key(cell))) for cell in cells if cell["system"] == "quorate"]
    return [ours / theirs for ours, theirs in pairs if theirs and ours is not None]
