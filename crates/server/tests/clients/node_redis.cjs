// node-redis with its defaults does SET, APPEND, GET against every port given.
const assert = require("node:assert");
const { createClient } = require("redis");

(async () => {
  for (const port of process.argv.slice(2).map(Number)) {
    const client = createClient({ socket: { port } });
    await client.connect();
    const key = `node-redis:${port}`;
    assert.strictEqual(await client.set(key, "hello"), "OK");
    assert.strictEqual(await client.append(key, " world"), 11);
    assert.strictEqual(await client.get(key), "hello world");
    const replies = await Promise.all([client.append(key, "!"), client.get(key), client.del(key), client.get(key)]);
    assert.deepStrictEqual(replies, [12, "hello world!", 1, null]);
    client.destroy();
  }
  console.log("node-redis", require("redis/package.json").version, "ok");
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
