// ioredis with its defaults does SET, APPEND, GET against every port given.
const assert = require("node:assert");
const Redis = require("ioredis");

(async () => {
  for (const port of process.argv.slice(2).map(Number)) {
    const client = new Redis(port);
    const key = `ioredis:${port}`;
    assert.strictEqual(await client.set(key, "hello"), "OK");
    assert.strictEqual(await client.append(key, " world"), 11);
    assert.strictEqual(await client.get(key), "hello world");
    const replies = await client.pipeline().append(key, "!").get(key).del(key).get(key).exec();
    assert.deepStrictEqual(replies.map(([error, reply]) => error ?? reply), [12, "hello world!", 1, null]);
    client.disconnect();
  }
  console.log("ioredis", require("ioredis/package.json").version, "ok");
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
