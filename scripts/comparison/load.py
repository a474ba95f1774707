"""The load: one cell of a table is one run of a closed loop against one cluster. Must not know why it is run."""

import csv
import io
import json
import os
import subprocess
import time

from . import machine

FILL = {"redis": (64, 16), "etcd": (16, 100), "zookeeper": (16, 64)}
# What shares of a JVM's code are compiled by the time it is measured matters more than anything else it does.
WARM_SECONDS = {"redis": 0.5, "etcd": 1.0, "zookeeper": 4.0}
RUN_SECONDS_MORE = 60


class LoadFailed(Exception):
    """A run that measured nothing."""


class Load:
    """Starts the programs that make the load: `peerload` for all, or another for what speaks the Redis protocol."""

    def __init__(self, peerload, kind="peerload", quorate=None):
        self.peerload = peerload
        self.kind = kind
        self.quorate = quorate
        self.rates = {}
        self.filled = set()

    def cell(self, cluster, work, clients, pipeline, seconds, keys, **extra):
        """One measured run, with what the servers used for it."""
        other = self.kind != "peerload" and cluster.name.split("-")[0] in ("redis", "quorate")
        # Of the others none can do what the extras ask for, or WAIT.
        other = other and cluster.name != "redis-wait" and not extra
        pids = cluster.pids()
        if len(pids) != cluster.nodes:
            raise LoadFailed(f"{cluster.label}: a server has ended")
        if other:
            self._prepare(cluster, work, clients, pipeline, keys)
        start, busy = time.monotonic(), machine.busy_seconds()
        before, own, device = machine.Usage(pids), os.times(), machine.device_written(cluster.folder)
        if other and self.kind == "redis-benchmark":
            figures = self._redis_benchmark(cluster, work, clients, pipeline, seconds, keys)
        elif other:
            figures = self._quorate_bench(cluster, work, clients, pipeline, seconds, keys, "--no-fill")
        else:
            figures = self._peerload(cluster, work, clients, pipeline, seconds, keys, **extra)
        after, later = machine.Usage(pids), os.times()
        operations = figures["operations"]
        if not operations:
            raise LoadFailed(f"{cluster.label}: nothing was answered in {seconds} s")
        figures["cpu_us"] = (after.cpu - before.cpu) * 1e6 / operations
        figures["accounted_bytes"] = (after.disk - before.disk) / operations
        # Of all processes, but the kernel's accounts charge a page as large as the cache made it.
        written = machine.device_written(cluster.folder)
        figures["disk_bytes"] = figures["accounted_bytes"] if device is None else (written - device) / operations
        spent = later.children_user + later.children_system - own.children_user - own.children_system
        figures["load_cpu_us"] = spent * 1e6 / operations
        others = machine.busy_seconds() - busy - spent - (after.cpu - before.cpu)
        figures["others_share"] = max(0, others) / (time.monotonic() - start) / os.cpu_count()
        return figures

    def fill(self, cluster, keys):
        """Writes each key once."""
        clients, pipeline = FILL[cluster.target]
        return self._peerload(cluster, "fill", clients, pipeline, 0, keys)

    def warm(self, cluster, keys):
        """Has the cluster do both kinds of work before it is measured."""
        seconds = WARM_SECONDS[cluster.target]
        for work in ("set", "get"):
            self._peerload(cluster, work, 64, 1, seconds, keys)

    def _peerload(self, cluster, work, clients, pipeline, seconds, keys, **extra):
        command = [self.peerload, "--target", cluster.target, "--server", f"127.0.0.1:{cluster.leader}"]
        command += ["--do", work, "--clients", str(clients), "--pipeline", str(pipeline), "--keys", str(keys)]
        command += ["--seed", str(time.monotonic_ns() & 0xFFFF)]
        if work != "fill" and "count" not in extra:
            command += ["--seconds", str(seconds)]
        if cluster.name == "redis-wait":
            command += ["--wait", "1"]
        if cluster.target == "zookeeper" and not extra.pop("local", False):
            command += ["--sync"]
        for name, value in extra.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        return json.loads(_output(command, cluster, None if work == "fill" else seconds))

    def _prepare(self, cluster, work, clients, pipeline, keys):
        """What must be known or there before a run of another program: its rate, or the keys as it names them."""
        if self.kind == "redis-benchmark" and (cluster.name, work, clients, pipeline) not in self.rates:
            self._redis_benchmark(cluster, work, clients, pipeline, 1, keys)
        if self.kind == "quorate-bench" and (cluster.folder, keys) not in self.filled:
            self._quorate_bench(cluster, "get", 64, 1, 0.1, keys)
            self.filled.add((cluster.folder, keys))

    def _quorate_bench(self, cluster, work, clients, pipeline, seconds, keys, *more):
        command = [self.quorate, "bench", work, "--servers", f"127.0.0.1:{cluster.leader}", "--keys", str(keys), *more]
        command += ["--connections", str(clients), "--pipeline", str(pipeline), "--warm-up", "0s", "--json", "-"]
        run = json.loads(_output([*command, "--duration", f"{seconds * 1000:.0f}ms"], cluster, seconds))["runs"][0]
        if run["errors"] or run["nil"] or run["connection_errors"]:
            raise LoadFailed(f"{cluster.label}: {run['errors']} errors, {run['nil']} keys not found")
        figures = {"operations": run["requests"], "seconds": run["seconds"], "per_second": run["requests_per_second"]}
        for name in ("mean", "p50", "p90", "p99", "max"):
            figures[f"{name}_us"] = run["latency_ms"][name] * 1000
        return figures | {"p999_us": run["latency_ms"]["p99_9"] * 1000}

    def _redis_benchmark(self, cluster, work, clients, pipeline, seconds, keys):
        shape = (cluster.name, work, clients, pipeline)
        count = max(clients * pipeline * 20, int(self.rates.get(shape, 2000 * pipeline) * seconds))
        command = ["redis-benchmark", "-p", str(cluster.leader), "-t", work, "-c", str(clients), "-P", str(pipeline)]
        command += ["-n", str(count), "-d", "100", "-r", str(keys), "--csv"]
        start = time.monotonic()
        rows = list(csv.DictReader(io.StringIO(_output(command, cluster, seconds))))
        elapsed = time.monotonic() - start
        if not rows:
            raise LoadFailed(f"{cluster.label}: redis-benchmark gave no figures")
        rate = float(rows[-1]["rps"])
        self.rates[shape] = rate
        figures = {"operations": count, "seconds": elapsed, "per_second": rate}
        figures["mean_us"] = float(rows[-1]["avg_latency_ms"]) * 1000
        for name in ("p50", "p99", "max"):
            figures[f"{name}_us"] = float(rows[-1][f"{name}_latency_ms"]) * 1000
        return figures


def _output(command, cluster, seconds):
    limit = None if seconds is None else seconds + RUN_SECONDS_MORE
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired as late:
        raise LoadFailed(f"{cluster.label}: {os.path.basename(command[0])} did not end in {limit} s") from late
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise LoadFailed(f"{cluster.label}: {last}")
    return done.stdout
