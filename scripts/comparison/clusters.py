"""Each product, started on loopback with everything synced before it is answered. Must not know what is measured."""

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

START_SECONDS = 60
STOP_SECONDS = 10
ATTEMPTS = 3


class Failed(Exception):
    """A server does not do what it should."""


def free_ports(count):
    """Ports that nobody listens on. Somebody may take one before it is used: then the start is tried again."""
    held = []
    for _ in range(count):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        held.append(listener)
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def ask(port, *words, timeout=5):
    """The answer of a Redis-speaking server: text, or a list of the lines of an array."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in words))
        file = connection.makefile("rb")
        first = file.readline().decode().strip()
        if first[:1] == "$":
            return file.read(max(0, int(first[1:]))).decode()
        if first[:1] == "*":
            head = file.readline().decode().strip()
            return [file.readline().decode().strip() if head[:1] == "$" else head]
        return first


class Cluster:
    """One product's servers. `name` is for files, `label` for people."""

    name = label = ""
    target = "redis"
    nodes = 1
    durable = "AOF synced before each answer"

    def __init__(self, folder):
        self.folder = tempfile.mkdtemp(prefix=f"{self.name}-", dir=folder)
        self.processes = []
        self.ports = []
        self.leader = None

    def start(self):
        """Starts all, and waits until one of them leads."""
        for attempt in range(ATTEMPTS):
            try:
                self.launch()
                self._await_leader()
                return self
            except Failed:
                self.stop(keep=attempt + 1 < ATTEMPTS)
                if attempt + 1 == ATTEMPTS:
                    raise
        return self

    def draw_ports(self, others=0):
        """A port for the clients of each server, in `ports`; and lists of so many others for each."""
        ports = free_ports((1 + others) * self.nodes)
        self.ports, *rest = (ports[at : at + self.nodes] for at in range(0, len(ports), self.nodes))
        return rest

    def spawn(self, number, command, **options):
        """Starts a server as a child that does not outlive this process."""
        with open(os.path.join(self.folder, f"log{number}"), "ab") as log:
            self.processes.append(
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent, **options
                )
            )

    def pids(self):
        """Of all servers that run."""
        return [process.pid for process in self.processes if process.poll() is None]

    def stop(self, keep=False):
        """Ends all by their ids, and takes away what they wrote."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        end = time.monotonic() + STOP_SECONDS
        for process in self.processes:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []
        shutil.rmtree(self.folder, ignore_errors=True)
        if keep:
            os.makedirs(self.folder)

    def _await_leader(self):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            for number, process in enumerate(self.processes, 1):
                if process.poll() is not None:
                    raise Failed(f"{self.label}: server {number} ended: {self.last_words(number)}")
            try:
                self.leader = self.find_leader()
            except (OSError, ValueError, Failed):
                self.leader = None
            if self.leader:
                return
            time.sleep(0.1)
        raise Failed(f"{self.label}: no leader after {START_SECONDS} s: {self.last_words(1)}")

    def last_words(self, number):
        """The last line that a server logged."""
        try:
            with open(os.path.join(self.folder, f"log{number}"), errors="replace") as log:
                return (log.read().strip().splitlines() or ["it said nothing"])[-1]
        except OSError:
            return "it has no log"

    def data(self, number):
        """The folder of a server."""
        path = os.path.join(self.folder, f"n{number}")
        os.makedirs(path, exist_ok=True)
        return path

    def launch(self):
        """Starts the processes."""
        raise NotImplementedError

    def find_leader(self):
        """The port to send everything to, once it works."""
        raise NotImplementedError


class Redis(Cluster):
    """One Redis that syncs before it answers, and nobody beside it."""

    name, label = "redis", "Redis, one node"

    def __init__(self, folder, program):
        super().__init__(folder)
        self.program = program
        self.version = _version(program, "--version", r"v=([\d.]+)")

    def launch(self):
        self.draw_ports()
        for number, port in enumerate(self.ports, 1):
            options = {"port": port, "bind": "127.0.0.1", "dir": self.data(number), "save": "", "appendonly": "yes"}
            options |= {"appendfsync": "always", "daemonize": "no", "logfile": ""}
            if number > 1:
                options |= {"replicaof": f"127.0.0.1 {self.ports[0]}", "repl-diskless-sync-delay": 0}
            command = [self.program]
            for name, value in options.items():
                command += [f"--{name}", *(str(value).split(" ") if name == "replicaof" else [str(value)])]
            self.spawn(number, command)

    def find_leader(self):
        if ask(self.ports[0], "PING") != "+PONG":
            return None
        online = ask(self.ports[0], "INFO", "replication").count("state=online")
        return self.ports[0] if online == self.nodes - 1 else None


class RedisReplicas(Redis):
    """Redis with two replicas; each client waits until one of them has its write too."""

    name, label = "redis-wait", "Redis, 1 + 2 replicas, WAIT 1"
    nodes = 3
    durable = "AOF synced before the answer; WAIT 1 after each write, which says that a replica has received it"


class Quorate(Cluster):
    """As it is by default."""

    name, label = "quorate", "Quorate"
    nodes = 3
    durable = "synced on a majority before the answer"

    def __init__(self, folder, program, nodes=3, arguments=()):
        self.nodes = nodes
        if nodes != 3:
            self.name, self.label = f"quorate-{nodes}", f"Quorate, {nodes} nodes"
        super().__init__(folder)
        self.program = program
        self.arguments = list(arguments)
        self.version = _version(program, "--version", r"([\d.]+\S*)")

    def launch(self):
        (others,) = self.draw_ports(1)
        peers = ",".join(f"{number}=127.0.0.1:{port}" for number, port in enumerate(others, 1))
        for number, port in enumerate(self.ports, 1):
            command = [self.program, "serve", "--id", str(number), "--data", self.data(number)]
            self.spawn(number, [*command, "--listen", f"127.0.0.1:{port}", "--peers", peers, *self.arguments])

    def find_leader(self):
        for port in self.ports:
            if ask(port, "ROLE")[0] == "master":
                return port if ask(port, "SET", "compare:ready", "1") == "+OK" else None
        return None


class Etcd(Cluster):
    """As it is by default, with room for more data."""

    name, label, target = "etcd", "etcd", "etcd"
    nodes = 3
    durable = "synced on a majority before the answer"

    def __init__(self, folder, program):
        super().__init__(folder)
        self.program = program
        self.version = _version(program, "--version", r"etcd Version: ([\d.]+)")

    def launch(self):
        (others,) = self.draw_ports(1)
        peers = ",".join(f"n{number}=http://127.0.0.1:{port}" for number, port in enumerate(others, 1))
        for number, (port, peer) in enumerate(zip(self.ports, others), 1):
            here, there = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
            command = [self.program, "--name", f"n{number}", "--data-dir", self.data(number), "--log-level", "error"]
            command += ["--listen-client-urls", here, "--advertise-client-urls", here, "--listen-peer-urls", there]
            command += ["--initial-advertise-peer-urls", there, "--initial-cluster", peers]
            self.spawn(number, [*command, "--quota-backend-bytes", str(8 << 30)])

    def find_leader(self):
        for port in self.ports:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v3/maintenance/status", data=b"{}")
            with urllib.request.urlopen(request, timeout=5) as answer:
                status = json.load(answer)
            if status.get("leader", "0") == status["header"]["member_id"]:
                return port
        return None


class ZooKeeper(Cluster):
    """As it is by default, without its limit of 60 connections from one address."""

    name, label, target = "zookeeper", "ZooKeeper", "zookeeper"
    nodes = 3
    durable = "synced on a majority before the answer"

    def __init__(self, folder, program):
        super().__init__(folder)
        self.java, self.jar = program
        self.version = next(
            (
                found.group(1)
                for name in sorted(os.listdir(os.path.dirname(self.jar)))
                if (found := re.fullmatch(r"zookeeper-([\d.]+)\.jar", name))
            ),
            "unknown",
        )

    def launch(self):
        between = enumerate(zip(*self.draw_ports(2)), 1)
        servers = [f"server.{number}=127.0.0.1:{a}:{b}" for number, (a, b) in between]
        for number, port in enumerate(self.ports, 1):
            folder = self.data(number)
            with open(os.path.join(folder, "myid"), "w") as file:
                file.write(str(number))
            with open(os.path.join(folder, "log4j.properties"), "w") as file:
                file.write("log4j.rootLogger=WARN, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n")
                file.write("log4j.appender.out.layout=org.apache.log4j.SimpleLayout\n")
            lines = ["tickTime=2000", "initLimit=10", "syncLimit=5", "maxClientCnxns=0", "admin.enableServer=false"]
            lines += [f"dataDir={folder}", "clientPortAddress=127.0.0.1", f"clientPort={port}", *servers]
            lines += ["4lw.commands.whitelist=srvr"]
            path = os.path.join(folder, "zoo.cfg")
            with open(path, "w") as file:
                file.write("\n".join(lines) + "\n")
            command = [self.java, "-cp", f"{folder}:{self.jar}", "-Dzookeeper.jmx.log4j.disable=true"]
            self.spawn(number, [*command, "org.apache.zookeeper.server.quorum.QuorumPeerMain", path])

    def find_leader(self):
        found = None
        for port in self.ports:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(b"srvr")
                answer = connection.makefile("rb").read()
            if b"Mode: leader" in answer:
                found = port
            elif b"Mode: follower" not in answer:
                return None
        return found


def _version(program, flag, pattern):
    text = subprocess.run([program, flag], capture_output=True, text=True, timeout=30, check=False).stdout
    found = re.search(pattern, text)
    return found.group(1) if found else "unknown"
