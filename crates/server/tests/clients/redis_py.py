"""redis-py with its defaults does SET, APPEND, GET against every port given."""

import sys

import redis

for port in map(int, sys.argv[1:]):
    client = redis.Redis(port=port)
    key = f"redis-py:{port}"
    assert client.set(key, "hello") is True
    assert client.append(key, " world") == 11
    assert client.get(key) == b"hello world"
    with client.pipeline(transaction=False) as pipe:
        pipe.append(key, "!").get(key).delete(key).get(key)
        assert pipe.execute() == [12, b"hello world!", 1, None]
    client.close()

first, last = (redis.Redis(port=int(port), decode_responses=True) for port in (sys.argv[1], sys.argv[-1]))
first.set("redis-py:seen", "everywhere")
assert last.get("redis-py:seen") == "everywhere"
print("redis-py", redis.__version__, "ok")
