"""The machine under the figures, and what processes used of it. Must not know which servers they are."""

import os
import platform
import resource
import statistics
import time

TICKS = os.sysconf("SC_CLK_TCK")
IN_MEMORY = {"tmpfs", "ramfs"}
QUIET = 0.93


class Usage:
    """Processor seconds and bytes sent to the disk by some processes since they started, with children they waited for."""

    def __init__(self, pids):
        self.cpu = self.disk = 0
        for pid in pids:
            with open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rpartition(")")[2].split()
            self.cpu += sum(int(field) for field in fields[11:15]) / TICKS
            self.disk += int(_field(f"/proc/{pid}/io", "write_bytes"))


def device_written(folder):
    """Bytes that the device under a folder was sent since the system started; None where that is not known."""
    number = os.stat(folder).st_dev
    try:
        with open(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat") as stat:
            return int(stat.read().split()[6]) * 512
    except OSError:
        return None


def resident(pid):
    """Bytes of memory that a process has now."""
    return int(_field(f"/proc/{pid}/status", "VmRSS").split()[0]) * 1024


def _field(path, name):
    with open(path) as file:
        for line in file:
            if line.startswith(name + ":"):
                return line.partition(":")[2].strip()
    raise OSError(f"{path} has no {name}")


def await_idle(pids, limit=60):
    """Waits until the processes have done next to nothing for a second: what they put off is done."""
    end = time.monotonic() + limit
    before = Usage(pids).cpu
    while time.monotonic() < end:
        time.sleep(1)
        now = Usage(pids).cpu
        if now - before < 0.05 * len(pids):
            return
        before = now


def many_files():
    """As many open files as may be, for those started from here too."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def idle_share(seconds=1.0):
    """Which share of the processors nobody uses, now."""

    def times():
        with open("/proc/stat") as stat:
            return [int(word) for word in stat.readline().split()[1:9]]

    before = times()
    time.sleep(seconds)
    spent = [after - was for was, after in zip(before, times())]
    return spent[3] / max(1, sum(spent))


def busy_seconds():
    """Processor time that anybody used since the system started, kernel and all."""
    with open("/proc/stat") as stat:
        spent = [int(word) for word in stat.readline().split()[1:9]]
    return (sum(spent) - spent[3] - spent[4]) / TICKS


def mount_of(folder):
    """(file system, device) that a folder lies on."""
    best = ("", "?", "?")
    with open("/proc/mounts") as mounts:
        for line in mounts:
            device, point, kind = line.split()[:3]
            inside = os.path.realpath(folder).startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best[0]):
                best = (point, kind, device)
    return best[1:]


def sync_micros(folder, count=300):
    """Microseconds for 4 KiB to be appended and synced: (median, 99th of a hundred)."""
    path = os.path.join(folder, "sync-probe")
    took = []
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        for _ in range(count):
            start = time.perf_counter()
            os.write(file, b"q" * 4096)
            os.fdatasync(file)
            took.append((time.perf_counter() - start) * 1e6)
    finally:
        os.close(file)
        os.unlink(path)
    took.sort()
    return round(statistics.median(took)), round(took[int(len(took) * 0.99)])


def describe(folder):
    """What goes beside every figure."""
    model = "unknown"
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    with open("/proc/meminfo") as info:
        memory = int(info.readline().split()[1]) * 1024
    kind, device = mount_of(folder)
    median, late = sync_micros(folder)
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory,
        "kernel": platform.release(),
        "disk": f"{device} ({kind})",
        "sync_us": median,
        "sync_p99_us": late,
    }
