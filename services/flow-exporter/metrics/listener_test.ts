import { deepEqual, equal, match, throws } from "node:assert/strict";
import { WeirClient } from "@weir/client";
import { Health, Logger, systemClock } from "@weir/common";
import { metricsAddress, metricsHandler, serveMetrics } from "./listener.ts";
import { HandClock } from "./testing.ts";

Deno.test("metricsAddress() takes an address, its port or Hubble's", () => {
  deepEqual(metricsAddress("127.0.0.1"), { hostname: "127.0.0.1", port: 9965 });
  deepEqual(metricsAddress(":9100"), { hostname: "::", port: 9100 });
  deepEqual(metricsAddress("[fd00::1]:1"), { hostname: "fd00::1", port: 1 });
  for (const wrong of ["10.0.0.1:99999", "x y", ":", "http://a"]) {
    throws(() => metricsAddress(wrong), /Cannot serve metrics/);
  }
});

Deno.test("metricsHandler() serves metrics and nothing else, a service's by its name, and says what is away", async () => {
  const clock = new HandClock();
  let made = 0, asked = 0;
  const handler = metricsHandler({
    render: () => `own ${++made}\n`,
    services: {
      datapath: new WeirClient({
        handler: (request) => {
          asked++;
          return new Response(new URL(request.url).pathname);
        },
      }),
      gone: new WeirClient("unix:/nowhere.sock"),
    },
    clock,
  });
  const get = async (path: string, method = "GET") => {
    const answer = await handler(new Request(`http://x${path}`, { method }));
    return [answer.status, await answer.text()];
  };
  deepEqual(await get("/metrics"), [200, "own 1\n"]);
  deepEqual(await get("/metrics"), [200, "own 1\n"], "whoever asks often gets the same text");
  clock.ms += 1000;
  deepEqual(await get("/metrics/"), [200, "own 2\n"]);
  deepEqual(await get("/metrics/datapath"), [200, "/metrics"]);
  equal(asked, 1);
  const [status, said] = await get("/metrics/gone");
  equal(status, 503);
  match(said as string, /nowhere/);
  for (
    const [path, method] of [
      ["/", "GET"],
      ["/v1/flows", "GET"],
      ["/metrics", "POST"],
      ["/metrics/x", "GET"],
      [
        "/metrics/constructor",
        "GET",
      ],
      ["/metricsdatapath", "GET"],
    ]
  ) {
    equal((await get(path, method))[0], 404, `${method} ${path}`);
  }
});

Deno.test("serveMetrics() waits for an address that is taken, and ends when it is told to", async () => {
  const taken = Deno.listen({ hostname: "127.0.0.1", port: 0 }), { port } = taken.addr as Deno.NetAddr;
  const stop = new AbortController(), waits: (() => void)[] = [], health = new Health();
  serveMetrics({
    listen: `127.0.0.1:${port}`,
    render: () => "own\n",
    services: {},
    health,
    log: new Logger({ name: "test", write: () => {} }),
    clock: { ...systemClock, sleep: () => new Promise((resolve) => waits.push(resolve)) },
    signal: stop.signal,
  });
  const said = () => health.list().find(({ name }) => name.startsWith("metrics"))?.message ?? "";
  match(said(), /not served: .*in use/);
  taken.close();
  waits[0]();
  await new Promise((resolve) => setTimeout(resolve));
  equal(await (await fetch(`http://127.0.0.1:${port}/metrics`)).text(), "own\n");
  equal(health.ready, true);
  stop.abort();
});
