import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { systemClock } from "@weir/common";
import { ReplicaTransport } from "./replica_transport.ts";
import { connectTo, targetOf } from "./connect.ts";

/** A server on loopback that answers with its name, or as `handler` says. */
function server(name: string, handler?: (request: Request) => Response | Promise<Response>) {
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    handler ?? (() => new Response(name)),
  );
  return { url: `http://127.0.0.1:${server.addr.port}`, stop: () => server.shutdown() };
}

async function deadUrl(): Promise<string> {
  const gone = server("gone");
  await gone.stop();
  return gone.url;
}

const options = { clock: systemClock, first: 0 };

Deno.test("ReplicaTransport goes on to the next place when one is gone, and stays there", async () => {
  const b = server("b"), transport = new ReplicaTransport([await deadUrl(), b.url], options);
  try {
    for (let n = 0; n < 2; n++) equal(await (await transport.fetch("/")).text(), "b");
  } finally {
    transport.close();
    await b.stop();
  }
});

Deno.test("ReplicaTransport goes on when a place is not ready, and tells so when none is", async () => {
  let asked = 0;
  const waiting = () => (asked++, Response.json({ code: "NOT_READY" }, { status: 503 }));
  const a = server("a", waiting), b = server("b"), c = server("c", waiting);
  const good = new ReplicaTransport([a.url, b.url], options),
    bad = new ReplicaTransport([a.url, c.url], options);
  try {
    equal(await (await good.fetch("/")).text(), "b");
    equal(await (await good.fetch("/")).text(), "b");
    equal(asked, 1);
    const answer = await bad.fetch("/");
    deepEqual([answer.status, await answer.json()], [503, { code: "NOT_READY" }]);
  } finally {
    good.close();
    bad.close();
    await Promise.all([a.stop(), b.stop(), c.stop()]);
  }
});

Deno.test("ReplicaTransport leaves a place that is silent, and waits for one that is only slow", async () => {
  const hung = Deno.listen({ hostname: "127.0.0.1", port: 0 }); // takes connections, never answers
  const b = server("b");
  const slow = server("slow", async (request) => {
    if (!request.url.endsWith("/livez")) await systemClock.sleep(200);
    return new Response("slow");
  });
  const one = new ReplicaTransport([`http://127.0.0.1:${hung.addr.port}`, b.url], {
    ...options,
    silentMs: 20,
  });
  const two = new ReplicaTransport([slow.url, b.url], { ...options, silentMs: 20 });
  try {
    equal(await (await one.fetch("/")).text(), "b");
    equal(await (await two.fetch("/")).text(), "slow");
  } finally {
    one.close();
    two.close();
    hung.close();
    await Promise.all([b.stop(), slow.stop()]);
  }
});

Deno.test("ReplicaTransport sends a body again, and passes on that the caller gave up", async () => {
  const b = server("b", async (request) => new Response(await request.text()));
  const hung = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const transport = new ReplicaTransport([await deadUrl(), b.url], options);
  const alone = new ReplicaTransport([`http://127.0.0.1:${hung.addr.port}`, b.url], options);
  try {
    equal(await (await transport.fetch("/", { method: "PUT", body: "text" })).text(), "text");
    await rejects(alone.fetch("/", { signal: AbortSignal.timeout(50) }), { name: "TimeoutError" });
  } finally {
    transport.close();
    alone.close();
    hung.close();
    await b.stop();
  }
});

Deno.test("ReplicaTransport names every place and its reason when none answers", async () => {
  const [a, b] = [await deadUrl(), await deadUrl()];
  const transport = new ReplicaTransport([a, b], options);
  const error = await transport.fetch("/").then(() => undefined, (error) => error as Error);
  match(error!.message, new RegExp(`^${a}: .*refused.*; ${b}: .*refused`));
  transport.close();
});

Deno.test("targetOf() reads sockets, replicas and the directory of certificates", () => {
  deepEqual(targetOf("unix:/run/x.sock"), { socket: "/run/x.sock" });
  deepEqual(targetOf("/run/x.sock"), { socket: "/run/x.sock" });
  deepEqual(targetOf("127.0.0.1:99"), { url: "http://127.0.0.1:99" });
  deepEqual(targetOf("https://a:1,https://b:1#/var/lib/weir/host"), {
    url: "https://a:1,https://b:1",
    tlsDirectory: "/var/lib/weir/host",
  });
  equal(connectTo("https://a:1/, https://b:1").address, "https://a:1,https://b:1");
});
