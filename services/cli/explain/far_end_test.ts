import assert from "node:assert/strict";
import { EndpointSockets } from "@weir/proto/datapath";
import { Flow } from "@weir/proto/flow";
import { socketStage } from "./socket_stage.ts";
import { type SeenFlow, trafficStage } from "./traffic_stage.ts";

const sockets = EndpointSockets.create({
  endpoint: "shop/web",
  listening: [
    { protocol: "TCP", address: "0.0.0.0", port: 80, process: "nginx", pid: 7, queue: 0, queueMax: 128 },
    { protocol: "TCP", address: "127.0.0.1", port: 8080, process: "python3", pid: 8 },
    { protocol: "TCP", address: "::", port: 81, process: "stuck", pid: 9, queue: 6, queueMax: 5 },
    { protocol: "UDP", address: "0.0.0.0", port: 53 },
  ],
});
const ask = (port: number, protocol = 6) => socketStage({ title: "shop/web", protocol, port, sockets });

Deno.test("socketStage() tells who listens, who listens for itself, who does not accept, and that nobody does", () => {
  assert.deepEqual([ask(80).state, ask(80).message], ["ok", "nginx (pid 7) listens on 0.0.0.0:80/TCP"]);
  assert.equal(ask(53, 17).state, "ok");
  assert.match(ask(8080).message, /^python3 \(pid 8\) listens on 127\.0\.0\.1:8080\/TCP only/);
  assert.match(ask(81).message, /takes no connections: 6 wait to be accepted and its backlog is 5/);
  assert.match(ask(9).message, /^nothing listens on 9\/TCP; nginx \(pid 7\) listens on 0\.0\.0\.0:80\/TCP/);
  assert.match(ask(80, 17).message, /^nothing listens on 80\/UDP/);
  const byService = socketStage({ title: "shop/web", protocol: 6, port: 9, sockets, service: "shop/api" });
  assert.match(
    byService.fixes[0],
    /^Set the target port of service shop\/api .* that is listened on: 80, 81$/,
  );
  const queue = [{
    protocol: "TCP",
    address: "0.0.0.0",
    port: 80,
    process: "nginx",
    pid: 7,
    queue: 2,
    queueMax: 128,
  }];
  const busy = { ...sockets, listening: EndpointSockets.create({ listening: queue }).listening };
  const slow = socketStage({ title: "shop/web", protocol: 6, port: 80, sockets: busy });
  assert.deepEqual([slow.state, slow.message], [
    "ok",
    "nginx (pid 7) listens on 0.0.0.0:80/TCP; 2 wait to be accepted: is it stopped?",
  ]);
  assert.equal(
    socketStage({ title: "", protocol: 6, port: 9, sockets: { ...sockets, truncated: true } }).state,
    "unknown",
  );
});

const NOW = 1000;
const seen = (node: string, unixS: number, flow: Record<string, unknown>): SeenFlow => ({
  node,
  unixS,
  flow: Flow.create(flow),
});
const trouble = (
  node: string,
  kind: string,
  rest: Record<string, unknown> = {},
  unixS = NOW - 5,
  flow: Record<string, unknown> = {},
) => seen(node, unixS, { verdict: "FORWARDED", trouble: { kind, waited_s: 1.2, ...rest }, ...flow });
const traffic = (...flows: SeenFlow[]) =>
  trafficStage({ fromNode: "node-1", toNode: "node-2", flows, nowUnixS: NOW })?.message ?? "";

Deno.test("trafficStage() tells where an answer was lost from what both nodes saw", () => {
  assert.match(
    traffic(trouble("node-1", "no-answer")),
    /no answer came within 1\.2 s \(5 s ago\), and node-2 saw nothing arrive/,
  );
  assert.match(
    traffic(trouble("node-1", "no-answer"), trouble("node-2", "no-answer")),
    /it arrived: the far end does not answer/,
  );
  assert.match(
    traffic(trouble("node-1", "no-answer"), trouble("node-2", "unconfirmed")),
    /node-2 saw the answer leave, and node-1 did not get it .*lost on the way back/,
  );
  assert.match(
    traffic(trouble("node-1", "refused"), trouble("node-2", "refused", { by_endpoint: true })),
    /by the endpoint itself/,
  );
  assert.match(traffic(trouble("node-1", "refused")), /by something on the way/);
  assert.match(traffic(trouble("node-1", "too-big", { mtu: 1300 })), /1300 bytes fit/);
  assert.match(traffic(trouble("node-1", "unreachable")), /unreachable/);
  const said = (code: number) =>
    traffic(
      trouble("node-1", "unreachable", {}, NOW - 5, {
        IP: { source: "172.30.0.1" },
        l4: { ICMPv4: { type: 3, code } },
      }),
    );
  assert.match(said(0), /172\.30\.0\.1 said 5 s ago that it cannot deliver: no route to that network/);
  assert.match(said(13), /a firewall forbids it/);
  assert.match(said(3), /nothing listens on this port/);
});

Deno.test("trafficStage() tells drops that are not policy's, and nothing where all was well", () => {
  const drop = (reason: string, unixS = NOW - 3) =>
    seen("node-2", unixS, { verdict: "DROPPED", drop_reason_desc: reason });
  assert.match(traffic(drop("CT_MAP_INSERTION_FAILED")), /dropped there 3 s ago: ct map insertion failed/);
  assert.equal(traffic(drop("POLICY_DENIED")), "");
  assert.equal(traffic(seen("node-1", NOW - 3, { verdict: "DROPPED", Type: "L7" })), "", "another request");
  assert.equal(traffic(seen("node-1", NOW, { verdict: "FORWARDED" })), "");
  assert.match(
    traffic(drop("CT_MAP_INSERTION_FAILED", NOW - 50), trouble("node-1", "no-answer")),
    /no answer/,
  );
});

Deno.test("trafficStage() leaves to policy what policy dropped, and only that", () => {
  const ends = (port: number) => ({
    IP: { source: "10.0.1.1", destination: "10.0.2.2" },
    l4: { TCP: { source_port: port, destination_port: 80 } },
  });
  const denied = (port: number, unixS: number) =>
    seen("node-2", unixS, { verdict: "DROPPED", drop_reason_desc: "POLICY_DENIED", ...ends(port) });
  const silent = seen("node-1", NOW - 27, {
    verdict: "FORWARDED",
    trouble: { kind: "no-answer", waited_s: 11 },
    ...ends(4001),
  });
  assert.equal(traffic(denied(4001, NOW - 37), silent), "");
  assert.match(traffic(denied(4002, NOW - 37), silent), /saw nothing arrive/, "another connection");
  assert.match(traffic(denied(4001, NOW - 55), silent), /saw nothing arrive/, "long before");
});

Deno.test("trafficStage() takes an answer for the end of what began before it, and a reset for none", () => {
  const reply = (unixS: number, flags = {}) =>
    seen("node-1", unixS, {
      verdict: "FORWARDED",
      is_reply: { value: true },
      l4: { TCP: { source_port: 80, destination_port: 9, flags } },
    });
  const late = (waited_s: number) => trouble("node-1", "no-answer", { waited_s }, NOW - 2);
  assert.equal(traffic(reply(NOW - 8), late(10)), "", "told after it worked, begun before");
  assert.match(traffic(reply(NOW - 8), late(5)), /saw nothing arrive/);
  const refused = [trouble("node-2", "refused", { by_endpoint: true }), trouble("node-1", "refused")];
  assert.match(traffic(refused[0], reply(NOW - 5, { RST: true }), refused[1]), /by the endpoint itself/);
});

Deno.test("trafficStage() keeps what was seen of one connection apart from what was seen of another", () => {
  const ends = (port: number) => ({
    IP: { source: "10.0.1.1", destination: "10.0.2.2" },
    l4: { TCP: { source_port: port, destination_port: 80 } },
  });
  const earlier = (unixS: number) => trouble("node-2", "unconfirmed", { waited_s: 6 }, unixS, ends(4001));
  const now = trouble("node-1", "no-answer", { waited_s: 3 }, NOW - 4, ends(4002));
  assert.match(traffic(earlier(NOW - 5), now), /node-2 saw nothing arrive/);
  assert.match(traffic(now, earlier(NOW - 3)), /node-2 saw nothing arrive/, "told later, begun before");
  const back = trouble("node-2", "unconfirmed", { waited_s: 3 }, NOW - 4, ends(4002));
  assert.match(traffic(earlier(NOW - 5), now, back), /lost on the way back/);
});

Deno.test("trafficStage() takes an answer that does not come for none, however often it is sent", () => {
  const ends = (port: number, more = {}) => ({
    verdict: "FORWARDED",
    IP: { source: "10.0.1.1", destination: "10.0.2.2" },
    l4: { TCP: { source_port: port, destination_port: 80, ...more } },
  });
  const syn = (port: number, unixS: number) => seen("node-1", unixS, ends(port));
  const synAck = (node: string, port: number, unixS: number) =>
    seen(node, unixS, { ...ends(port, { flags: { SYN: true, ACK: true } }), is_reply: { value: true } });
  const back = trouble("node-2", "unconfirmed", { waited_s: 2 }, NOW - 4, ends(4001));
  assert.match(traffic(syn(4001, NOW - 6), back, synAck("node-2", 4001, NOW - 1)), /lost on the way back/);
  const there = trouble("node-1", "no-answer", { waited_s: 2 }, NOW - 4, ends(4002));
  const old = synAck("node-1", 4001, NOW - 1);
  assert.match(
    traffic(syn(4001, NOW - 20), syn(4002, NOW - 6), there, old),
    /saw nothing arrive/,
    "an old answer comes late",
  );
  assert.equal(traffic(syn(4001, NOW - 20), there, syn(4003, NOW - 3), synAck("node-1", 4003, NOW - 3)), "");
  assert.equal(traffic(syn(4002, NOW - 6), there, synAck("node-1", 4002, NOW - 3)), "", "it came in the end");
});

Deno.test("trafficStage() does not look for a far node outside of the cluster", () => {
  const stage = trafficStage({
    fromNode: "node-1",
    toNode: undefined,
    flows: [trouble("node-1", "no-answer")],
    nowUnixS: NOW,
  });
  assert.match(stage!.message, /it left the cluster, and nothing came back/);
  const refused = trouble("node-1", "refused", {}, NOW - 5, { IP: { source: "198.51.100.10" } });
  const answer = trafficStage({ fromNode: "node-1", toNode: undefined, flows: [refused], nowUnixS: NOW })!;
  assert.match(answer.message, /it left the cluster, and 198\.51\.100\.10 .* said no/);
  assert.doesNotMatch(answer.fixes.join(), /between the nodes/);
});
