"""The columns of the tables, and what is to be reached in each, as a ratio to one unreplicated Redis."""

from collections import namedtuple

Column = namedtuple("Column", "name label work clients pipeline goal")

# name, label, what is done, clients, commands under way per client, at least this ratio of commands a second
COLUMNS = [
    Column("set1", "SET ×1", "set", 1, 1, 0.7),
    Column("set16", "SET ×16", "set", 16, 1, 0.8),
    Column("set64", "SET ×64", "set", 64, 1, 0.9),
    Column("set256", "SET ×256", "set", 256, 1, 0.85),
    Column("set64p16", "SET 64 × pipeline 16", "set", 64, 16, 1.2),
    Column("get64", "GET ×64", "get", 64, 1, 0.95),
    Column("get64p16", "GET 64 × pipeline 16", "get", 64, 16, 1.0),
]
BY_NAME = {column.name: column for column in COLUMNS}

# name, label, the cell's figure, at most this ratio
COSTS = [
    ("p99", "p99 at SET ×64", "p99_us", 2.0),
    ("p99get", "p99 at GET ×64", "p99_us", 2.0),
    ("cpu", "processor time of all servers, SET ×64", "cpu_us", 1.6),
    ("disk", "bytes to the disk of all servers, SET ×64", "disk_bytes", 3.0),
]
COST_COLUMN = {"p99": "set64", "p99get": "get64", "cpu": "set64", "disk": "set64"}
MEMORY_GOAL = 1.3
FLAT_GOAL = 1.5
# What happens to the leader, in words, the figure that counts, and at most so many milliseconds.
FAILOVER = {
    "kill": ("kill -9 to the first write acknowledged after it", "away", 400),
    "stop": ("SIGSTOP to the first write acknowledged after it", "away", 600),
    "term": ("SIGTERM: longest time without an acknowledged write", "gap", 50),
}
APPEND_GOAL = 2.0

# Pipelines of etcd and ZooKeeper are not what their clients are used with.
NO_PIPELINE = {"etcd", "zookeeper"}
