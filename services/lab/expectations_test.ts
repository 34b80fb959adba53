import { createSocket } from "node:dgram";
import { deepEqual, equal, throws } from "node:assert/strict";
import { ExpectationError, judge, parseExpectations } from "./expectations.ts";
import { send } from "./probe.ts";

Deno.test("parseExpectations() reads places, ports and families", () => {
  const [a, b, c] = parseExpectations(
    `
- { from: tiefighter, to: deathstar, port: 80/TCP, expect: allow }
- { from: alliance/xwing, to: "fd00::1", port: icmp, expect: deny }
- { from: outside, to: node-2, port: 53/UDP, expect: allow, timeout: 5 }
`,
    "t.yaml",
  );
  deepEqual(a.from, { kind: "pod", namespace: undefined, pod: "tiefighter" });
  deepEqual([a.protocol, a.port, a.family], ["TCP", 80, 4]);
  deepEqual(b.from, { kind: "pod", namespace: "alliance", pod: "xwing" });
  deepEqual([b.protocol, b.family, b.to.kind], ["ICMP", 6, "address"]);
  deepEqual([a.timeoutMs, b.timeoutMs], [10_000, 1000]);
  deepEqual([c.from.kind, c.to.kind, c.protocol, c.timeoutMs], ["outside", "node", "UDP", 5000]);
});

Deno.test("parseExpectations() refuses what it would have to guess", () => {
  for (
    const text of [
      "a: 1",
      "- 5",
      "- { from: a, to: b, port: 80 }",
      "- { from: a, to: b, port: 99999, expect: allow }",
      "- { from: a, to: b, port: 80/SCTP, expect: allow }",
      "- { from: a, to: b, port: 80, expect: maybe }",
      "- { from: a, to: b, port: 80, expect: deny, unknown: 1 }",
      "- { from: 10.0.0.1, to: b, port: 80, expect: deny }",
      "- { from: a, to: b, port: 80, expect: deny, family: 5 }",
    ]
  ) throws(() => parseExpectations(text, "t"), ExpectationError, text);
});

Deno.test("judge() lets a refused connection fulfil neither allow nor deny", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const port = (listener.addr as Deno.NetAddr).port;
  const probe = { index: 0, protocol: "TCP", address: "127.0.0.1", port, timeoutMs: 2000 } as const;
  const expectation = (expect: string) =>
    parseExpectations(`- { from: a, to: 127.0.0.1, port: ${port}, expect: ${expect} }`, "t")[0];
  const answered = await send(probe);
  equal(answered.outcome, "answered");
  equal(judge(expectation("allow"), answered).passed, true);
  equal(judge(expectation("deny"), answered).passed, false);
  listener.close();
  const refused = await send(probe);
  equal(refused.outcome, "refused");
  equal(judge(expectation("allow"), refused).passed, false);
  equal(judge(expectation("deny"), refused).passed, false);
});

Deno.test("send() hears a UDP answer, and tells silence", async () => {
  const server = createSocket("udp4");
  const port = await new Promise<number>((resolve) =>
    server.bind(0, "127.0.0.1", () => resolve(server.address().port))
  );
  const probe = { index: 0, protocol: "UDP", address: "127.0.0.1", port, timeoutMs: 400 } as const;
  equal((await send(probe)).outcome, "timeout");
  server.on("message", (payload, peer) => server.send(payload, peer.port, peer.address));
  equal((await send(probe)).outcome, "answered");
  await new Promise<void>((resolve) => server.close(() => resolve()));
});
