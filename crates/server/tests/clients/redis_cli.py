"""redis-cli, one-shot and interactive (on a terminal), does SET, APPEND, GET against every port given."""

import os
import pty
import select
import subprocess
import sys
import time


def one_shot(port, *command, flags=()):
    run = subprocess.run(["redis-cli", "-p", port, *flags, *command], capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run
    return run.stdout.strip()


class Terminal:
    """redis-cli as a person sees it."""

    def __init__(self, port):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "dumb"
            os.execvp("redis-cli", ["redis-cli", "-p", port])
        self.read_until(f"{port}> ")
        self.prompt = f"{port}> "

    def read_until(self, text):
        seen, deadline = "", time.monotonic() + 30
        while text not in seen:
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"waited for {text!r}, saw {seen!r}"
            seen += os.read(self.fd, 65536).decode(errors="replace")
        return seen

    def ask(self, line, answer):
        os.write(self.fd, (line + "\r").encode())
        self.read_until(answer)

    def close(self):
        os.write(self.fd, b"quit\r")
        os.waitpid(self.pid, 0)
        os.close(self.fd)


for port in sys.argv[1:]:
    key = f"redis-cli:{port}"
    for flags in ((), ("-3",)):
        assert one_shot(port, "SET", key, "hello", flags=flags) == "OK"
        assert one_shot(port, "APPEND", key, " world", flags=flags) == "11"
        assert one_shot(port, "GET", key, flags=flags) == "hello world"
        assert one_shot(port, "GET", "no such key", flags=flags) == ""
    terminal = Terminal(port)
    terminal.ask(f"SET {key} hi", "OK")
    terminal.ask(f"APPEND {key} there", "(integer) 7")
    terminal.ask(f"GET {key}", '"hithere"')
    terminal.ask("GET nothing", "(nil)")
    terminal.close()
print("redis-cli ok")
