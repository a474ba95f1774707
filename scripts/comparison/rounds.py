"""What is run, in which order. Must not know how a figure is shown.

Redis and Quorate run beside each other, and take turns: every cell of one is followed by the same cell of the other, in
several rounds, so that what changes on the machine changes for both. The other products run alone, one after another.
"""

import os
import re
import subprocess
import sys
import time

from .clusters import Failed
from .goals import COLUMNS, NO_PIPELINE
from .load import LoadFailed
from . import machine


def say(text):
    """Progress, for people."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Runs:
    """Runs the parts, and keeps what came out of them."""

    def __init__(self, load, make, settings):
        self.load = load
        self.make = make
        self.settings = settings
        self.results = {"cells": [], "memory": [], "sweeps": [], "failover": []}
        self.skipped = []

    def table(self, others):
        """The main table."""
        pair = [self.make("redis"), self.make("quorate")]
        try:
            for cluster in pair:
                self._ready(cluster, self.settings["keys"])
            for round_number in range(1, self.settings["rounds"] + 1):
                for column in self._columns():
                    # Who goes first changes, so that being second is nobody's lot.
                    for cluster in pair if round_number % 2 else reversed(pair):
                        self._cell(cluster, column, round_number)
        finally:
            self._stop(pair)
        for name in others:
            self._other(name)

    def _columns(self):
        wanted = self.settings["columns"]
        return [column for column in COLUMNS if not wanted or column.name in wanted]

    def _other(self, name):
        cluster = None
        try:
            cluster = self.make(name)
            self._ready(cluster, self.settings["keys"])
            for round_number in range(1, self.settings["other_rounds"] + 1):
                for column in self._columns():
                    if column.pipeline == 1 or name not in NO_PIPELINE:
                        self._cell(cluster, column, round_number)
            if name == "zookeeper" and not self.settings["columns"]:
                local = dict(work="get", clients=64, pipeline=1, keys=self.settings["keys"], local=True)
                figures = self.load.cell(cluster, seconds=self.settings["seconds"], **local)
                self.results["cells"].append({"system": name, "column": "get64local", "round": 1, **figures})
        except (Failed, LoadFailed, OSError) as why:
            self.skip(name, why)
        finally:
            self._stop([cluster])

    def skip(self, name, why):
        """A product that cannot be measured here is left out, and that is said."""
        say(f"skip {name}: {why}")
        self.skipped.append({"system": name, "why": str(why)})

    def _ready(self, cluster, keys):
        say(f"{cluster.label}: start, {keys:,} keys")
        cluster.start()
        self.load.fill(cluster, keys)
        self.load.warm(cluster, keys)

    def _cell(self, cluster, column, round_number):
        figures = self.load.cell(
            cluster, column.work, column.clients, column.pipeline, self.settings["seconds"], self.settings["keys"]
        )
        say(f"{cluster.label}: {column.label}: {figures['per_second']:,.0f}/s, p99 {figures['p99_us']:,.0f} µs")
        self.results["cells"].append({"system": cluster.name, "column": column.name, "round": round_number, **figures})

    @staticmethod
    def _stop(clusters):
        for cluster in clusters:
            if cluster:
                cluster.stop()

    def memory(self, others):
        """Memory of each server with many keys, each written once; one product after another."""
        keys = self.settings["memory_keys"]
        for name in ["redis", "quorate", *others]:
            cluster = None
            try:
                cluster = self.make(name)
                say(f"{cluster.label}: memory with {keys:,} keys")
                cluster.start()
                empty = [machine.resident(pid) for pid in cluster.pids()]
                self.load.fill(cluster, keys)
                machine.await_idle(cluster.pids())
                full = [machine.resident(pid) for pid in cluster.pids()]
                self.results["memory"].append({"system": name, "keys": keys, "bytes": full, "empty_bytes": empty})
            except (Failed, LoadFailed, OSError) as why:
                if name in ("redis", "quorate"):
                    raise
                self.skip(name, why)
            finally:
                self._stop([cluster])

    def keys(self):
        """Cost of a command with few keys and with many. Both grow: they are filled up from step to step."""
        pair = [self.make("redis"), self.make("quorate")]
        try:
            for cluster in pair:
                cluster.start()
            for count in self.settings["key_steps"]:
                for cluster in pair:
                    say(f"{cluster.label}: {count:,} keys")
                    self.load.fill(cluster, count)
                    machine.await_idle(cluster.pids())
                    self.load.warm(cluster, count)
                self._sweep("keys", count, pair, [("set", 64, 1), ("get", 64, 1)], keys=count)
        finally:
            self._stop(pair)

    def connections(self):
        """Cost of a command with one connection and with many: all busy; and 64 busy among many that are idle."""
        pair = [self.make("redis"), self.make("quorate")]
        steps = self.settings["connection_steps"]
        try:
            for cluster in pair:
                self._ready(cluster, self.settings["keys"])
            for count in steps:
                self._sweep("connections", count, pair, [("set", count, 1), ("get", count, 1)])
            for count in (step for step in steps if step >= 64):
                idle = {"idle": count - 64} if count > 64 else {}
                self._sweep("idle", count, pair, [("set", 64, 1), ("get", 64, 1)], **idle)
        finally:
            self._stop(pair)

    def nodes(self):
        """Three, five and seven servers, each number beside one Redis."""
        shapes = [("set", 1, 1), ("set", 64, 1), ("set", 64, 16), ("get", 64, 1)]
        for count in self.settings["node_steps"]:
            pair = [self.make("redis"), self.make("quorate", nodes=count)]
            try:
                for cluster in pair:
                    self._ready(cluster, self.settings["keys"])
                self._sweep("nodes", count, pair, shapes)
            finally:
                self._stop(pair)

    def append(self):
        """100 bytes to the end of an empty value, and of one of 7 MiB, one client."""
        big = 7 << 20
        pair = [self.make("redis"), self.make("quorate")]
        try:
            for cluster in pair:
                self._ready(cluster, 1000)
            for round_number in range(1, self.settings["rounds"] + 1):
                for cluster in pair:
                    for length in (0, big):
                        key = f"append:{length}:{round_number}"
                        if length:
                            value = {"key": key, "value_bytes": length, "count": 1}
                            self.load.cell(cluster, "set", 1, 1, 1, 1, **value)
                            machine.await_idle(cluster.pids())
                        settings = {"key": key, "count": self.settings["appends"]}
                        figures = self.load.cell(cluster, "append", 1, 1, 1, 1, **settings)
                        self._keep("append", length, cluster, "append", 1, 1, round_number, figures)
        finally:
            self._stop(pair)

    def failover(self, script, quorate, folder):
        """How long nobody answers when the leader fails: another script's work; this one keeps what it says in the end."""
        if not os.path.exists(script):
            self.skip("failover", f"there is no {script}")
            return
        calls = [["--rounds", str(self.settings["failover_rounds"])]]
        if self.settings["quiet_seconds"]:
            calls.append(["--quiet", str(self.settings["quiet_seconds"])])
        for options in calls:
            say(f"failover: {' '.join(options)}")
            done = subprocess.run(
                [script, "--quorate", quorate, "--folder", folder, *options],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            lines = done.stdout.strip().splitlines()
            for line in lines:
                say(f"  {line}")
                if found := re.fullmatch(r"(\w+): (\w+) median (\d+) ms, worst (\d+) ms", line):
                    kind, what, median, worst = found.groups()
                    entry = {"kind": kind, "what": what, "median_ms": int(median), "worst_ms": int(worst)}
                    self.results["failover"].append({**entry, "rounds": self.settings["failover_rounds"]})
            if "--quiet" in options:
                entry = {"kind": "quiet", "seconds": self.settings["quiet_seconds"], "election": done.returncode != 0}
                self.results["failover"].append({**entry, "said": lines[-1] if lines else "nothing"})
            elif done.returncode != 0:
                raise Failed(f"{os.path.basename(script)}: {lines[-1] if lines else 'no reason given'}")

    def _sweep(self, sweep, step, pair, shapes, keys=None, **extra):
        for round_number in range(1, self.settings["rounds"] + 1):
            for work, clients, pipeline in shapes:
                for cluster in pair if round_number % 2 else reversed(pair):
                    figures = self.load.cell(
                        cluster,
                        work,
                        clients,
                        pipeline,
                        self.settings["seconds"],
                        keys or self.settings["keys"],
                        **extra,
                    )
                    self._keep(sweep, step, cluster, work, clients, pipeline, round_number, figures)

    def _keep(self, sweep, step, cluster, work, clients, pipeline, round_number, figures):
        system = cluster.name.split("-")[0]
        shape = {"work": work, "clients": clients, "pipeline": pipeline, "round": round_number}
        self.results["sweeps"].append({"sweep": sweep, "step": step, "system": system, **shape, **figures})
        say(
            f"{sweep} {step:,}: {cluster.label}: {work.upper()} {clients}×{pipeline}: {figures['per_second']:,.0f}/s, "
            f"p50 {figures['p50_us']:,.0f} µs, {figures['cpu_us']:,.1f} µs of processor each"
        )
