/**
 * What a program does with the Node driver, through a proxy that lets it use shop.cart alone. Arguments: what to import, port. Prints one JSON object: what each step gave.
 */
import { Buffer } from "node:buffer";

const [module, port] = Deno.args;
const { Client } = (await import(module)).default;
const client = new Client({
  contactPoints: [`127.0.0.1:${port}`],
  localDataCenter: "datacenter1",
  keyspace: "shop",
  socketOptions: { connectTimeout: 60_000, readTimeout: 60_000 },
});
const UNAUTHORIZED = 0x2100;
const found = {};

async function step(name, work) {
  try {
    found[name] = await work();
  } catch (error) {
    found[name] = error.code === UNAUTHORIZED
      ? `unauthorized: ${error.message}`
      : `${error.name}: ${error.message}`;
  }
}

const value = async (text, parameters, options) => {
  const { rows } = await client.execute(text, parameters, options);
  return rows[0].v;
};
const prepare = { prepare: true };

await client.connect();
await step("protocol", () => client.controlConnection.protocolVersion);
await step("select", () => value("SELECT v FROM cart WHERE k = 'a'"));
await step("select denied", () => value("SELECT v FROM secret WHERE k = 'x'"));
await step("prepared", async () => {
  const insert = "INSERT INTO cart (k, v, b) VALUES (?, ?, ?)";
  for (let number = 0; number < 20; number++) {
    await client.execute(insert, ["n", number, Buffer.alloc(1000, "x")], prepare);
  }
  return value("SELECT v FROM cart WHERE k = ?", ["n"], prepare);
});
await step("prepare denied", () => value("SELECT v FROM secret WHERE k = ?", ["x"], prepare));
await step("many", async () => {
  const all = Array.from({ length: 200 }, () => value("SELECT v FROM cart WHERE k = ?", ["n"], prepare));
  return (await Promise.all(all)).length;
});
const batch = (table) =>
  client.batch([
    { query: "INSERT INTO cart (k, v) VALUES (?, ?)", params: ["n", 1] },
    { query: `UPDATE ${table} SET v = ? WHERE k = ?`, params: [2, "n"] },
  ], prepare).then(() => "ok");
await step("batch", () => batch("cart"));
await step("batch denied", () => batch("secret"));
await step("clean up", () => client.execute("DELETE FROM cart WHERE k = 'n'").then(() => "ok"));
await step("at the end", () => value("SELECT v FROM cart WHERE k = 'a'"));
await client.shutdown();
console.log(JSON.stringify(found));
Deno.exit(0);
