import { deepEqual, equal } from "node:assert/strict";
import { PlaceProcess, serving } from "./place_process.ts";
import { Sender } from "./sender.ts";

Deno.test("the prober answers with its name and whom it saw, and tells refused from answered", async () => {
  const port = 20_000 + Deno.pid % 20_000;
  const ports = [`${port}/TCP`, `${port}/UDP`];
  const server = await serving(new PlaceProcess(["env"], ["serve", "echo", ...ports]), ports);
  const sender = new Sender(new PlaceProcess(["env"], ["send"]));
  try {
    for (const address of ["127.0.0.1", "::1"]) {
      for (const protocol of ["TCP", "UDP"] as const) {
        const { outcome, by, seenFrom, seenPort, localPort } = await sender.send({
          ...{ protocol, address, port, timeoutMs: 20_000 },
        });
        deepEqual(
          [outcome, by, seenFrom, seenPort],
          ["answered", "echo", address, localPort],
          `${protocol} ${address}`,
        );
      }
    }
    const large = await sender.send({
      protocol: "TCP",
      address: "::1",
      port,
      timeoutMs: 20_000,
      bytes: 300_000,
    });
    equal(large.outcome, "answered", large.detail);
    const refused = await sender.send({ protocol: "TCP", address: "127.0.0.1", port: 1, timeoutMs: 20_000 });
    equal(refused.outcome, "refused");
    await sender.stop();
    const over = await sender.send({ protocol: "TCP", address: "::1", port, timeoutMs: 1000 });
    equal(over.outcome, "error");
  } finally {
    await sender.stop();
    await server.stop();
  }
});

Deno.test("a prober that cannot answer says why", async () => {
  const ports = ["99999999/TCP"];
  const error = await serving(new PlaceProcess(["env"], ["serve", "echo", ...ports]), ports)
    .then(() => undefined, (error) => error);
  equal(/^Cannot answer on 99999999\/TCP: ./.test(error?.message), true, `${error}`);
});
