import assert from "node:assert/strict";
import { Flow } from "@weir/proto/flow";
import { Completeness } from "@weir/proto/history";
import type { Init } from "@weir/proto";
import { UsageError } from "../context.ts";
import { connectionsOf } from "./connection_set.ts";
import { bytesText, connectionsText, groupsText, lengthText } from "./connection_text.ts";
import { checkGroups, groupColumns, groupConnections } from "./groups.ts";
import { readConnectionArgs, readObserveArgs } from "./request.ts";

const CART = { namespace: "shop", pod_name: "cart-1", identity: 300, labels: ["k8s:app=cart", "k8s:x"] };
const DB = {
  namespace: "shop",
  pod_name: "db-0",
  identity: 301,
  labels: ["k8s:app=db"],
  workloads: [{ name: "db" }],
};
const POLICY = { name: "db", namespace: "shop", kind: "CiliumNetworkPolicy", file: "db.yaml", line: 5 };

/** A packet of cart to db at second `at`. */
function asked(at: number, more: Init<Flow> = {}, port = 4000): Flow {
  return Flow.create({
    uuid: `${at}`,
    time: { seconds: at, nanos: 0 },
    verdict: "FORWARDED",
    IP: { source: "10.0.0.1", destination: "10.0.0.2" },
    l4: { TCP: { source_port: port, destination_port: 5432, flags: { SYN: true } } },
    source: CART,
    destination: DB,
    node_name: "default/node-1",
    event_type: { type: 5 },
    is_reply: { value: false },
    ingress_allowed_by: [POLICY],
    ...more,
  });
}
function answered(at: number, flags: { RST?: boolean } = {}, port = 4000): Flow {
  return asked(at, {
    IP: { source: "10.0.0.2", destination: "10.0.0.1" },
    l4: { TCP: { source_port: 5432, destination_port: port, flags } },
    source: DB,
    destination: CART,
    is_reply: { value: true },
    event_type: { type: 4, sub_type: 0 },
    ingress_allowed_by: [],
    node_name: "default/node-2",
  });
}
const denied = (at: number, port: number) =>
  asked(at, {
    verdict: "DROPPED",
    drop_reason_desc: "POLICY_DENIED",
    event_type: { type: 1, sub_type: 133 },
    is_reply: undefined,
    ingress_allowed_by: [],
    ingress_denied_by: [POLICY],
  }, port);
const ROW = {
  node: "node-1",
  protocol: "tcp",
  source: "10.0.0.1",
  sourcePort: "4000",
  destination: "10.0.0.2",
  destinationPort: "5432",
  flags: "replied",
  sourceEndpoint: "shop/cart-1",
  destinationEndpoint: "shop/db-0",
  sourceIdentity: "300",
  destinationIdentity: "301",
};

Deno.test("connectionsOf() joins what both nodes saw in any order, both ways, and what conntrack tracks", () => {
  const [{ connection, flows }, ...more] = connectionsOf([answered(12), asked(10), asked(11)], [ROW]);
  assert.equal(more.length, 0);
  assert.equal(flows.length, 3);
  const { state, startUnixS, endUnixS, startKnown, replyFlows, verdict, nodes, policies, source } =
    connection;
  assert.deepEqual(
    { state, startUnixS, endUnixS, startKnown, flows: connection.flows, replyFlows, verdict, nodes },
    {
      state: "OPEN",
      startUnixS: 10,
      endUnixS: 12,
      startKnown: true,
      flows: 2,
      replyFlows: 1,
      verdict: "FORWARDED",
      nodes: ["default/node-1", "default/node-2"],
    },
  );
  assert.equal(source?.pod_name, "cart-1");
  assert.deepEqual(policies.map(({ direction, allowed, policy }) => [direction, allowed, policy?.line]), [[
    "INGRESS",
    true,
    5,
  ]]);
});

Deno.test("connectionsOf() says how a connection ended, and knows old ones by conntrack alone", () => {
  const states = (flows: Flow[], rows: Record<string, string>[] = []) =>
    connectionsOf(flows, rows).map(({ connection }) => connection.state);
  assert.deepEqual(states([denied(10, 4000)]), ["DENIED"]);
  assert.deepEqual(states([asked(10), answered(11, { RST: true })]), ["RESET"]);
  assert.deepEqual(states([asked(10)]), ["SILENT"]);
  assert.deepEqual(states([asked(10)], [{ ...ROW, flags: "" }]), ["NO_ANSWER"]);
  assert.deepEqual(states([asked(10)], [{ ...ROW, flags: "replied,closing,closing-reverse" }]), ["CLOSED"]);
  assert.deepEqual(states([asked(10, { trouble: { kind: "no-answer" } })]), ["NO_ANSWER"]);
  const alone = connectionsOf([], [ROW, { ...ROW, flags: "replied,service", destination: "10.96.0.1" }]);
  assert.deepEqual(
    alone.map(({ connection }) => [connection.state, connection.destination?.pod_name, connection.protocol]),
    [
      ["OPEN", "db-0", "TCP"],
    ],
  );
  // The same ports with nobody's addresses, and what is no connection at all.
  assert.deepEqual(
    connectionsOf([Flow.create({ time: { seconds: 1, nanos: 0 } }), asked(2, { IP: undefined })]),
    [],
  );
});

Deno.test("connectionsOf() has what conntrack counted, once where two nodes know the connection", () => {
  const counted = { ...ROW, packets: "12/7", bytes: "9000/420" };
  const far = { ...counted, sourceEndpoint: "", packets: "11/7", node: "node-b" };
  const service = { ...counted, flags: "replied,service", packets: "0/0", bytes: "0/0" };
  for (const rows of [[counted, far, service], [far, service, counted]]) {
    for (const flows of [[asked(10), answered(11)], []]) {
      const found = connectionsOf(flows, rows);
      assert.deepEqual(
        found.map(({ connection: { trafficKnown, packets, bytes, replyPackets, replyBytes } }) => [
          ...[trafficKnown, packets, bytes, replyPackets, replyBytes],
        ]),
        [[true, 12, 9000, 7, 420]],
      );
    }
  }
  const [{ connection }] = connectionsOf([asked(10), answered(11)], [ROW]);
  assert.equal(connection.trafficKnown, false, "a node of a version before");
  const view = { items: connectionsOf([], [counted]).map(({ connection }) => connection), more: 0 };
  const completeness = Completeness.create();
  assert.match(connectionsText({ ...view, completeness }, "table"), /12\/7 +9\.0 kB\/420 B/);
  const [group] = groupConnections(view.items, ["pod"]);
  assert.deepEqual([group.trafficKnown, group.packets, group.bytes], [true, 19, 9420]);
});

Deno.test("groupConnections() adds up by each key, most dropped first", () => {
  const connections = connectionsOf([
    ...[asked(10), answered(11)],
    ...[denied(12, 4001), denied(13, 4002)],
    asked(14, {
      destination: undefined,
      destination_names: ["api.example.org"],
      IP: { source: "10.0.0.1", destination: "192.0.2.1" },
    }),
  ]).map(({ connection }) => connection);
  const keys = ["pod", "verdict"];
  const groups = groupConnections(connections, keys);
  assert.deepEqual(groupColumns(keys), ["from.pod", "to.pod", "verdict"]);
  assert.deepEqual(
    groups.map(({ keys, flows, connections, dropped, firstUnixS, lastUnixS }) => [
      ...[keys["from.pod"], keys["to.pod"], keys.verdict],
      ...[flows, connections, dropped, firstUnixS, lastUnixS],
    ]),
    [
      ["shop/cart-1", "shop/db-0", "DROPPED", 2, 2, 2, 12, 13],
      ["shop/cart-1", "shop/db-0", "FORWARDED", 2, 1, 0, 10, 11],
      ["shop/cart-1", "api.example.org", "FORWARDED", 1, 1, 0, 14, 14],
    ],
  );
  const by = (...keys: string[]) =>
    groupConnections(connections, keys).map(({ keys }) => Object.values(keys).join(" > "));
  assert.deepEqual(by("label:app"), ["cart > db", "cart > "]);
  assert.deepEqual(by("workload", "port"), [
    "shop/cart-1 > shop/db > 5432",
    "shop/cart-1 > api.example.org > 5432",
  ]);
  assert.deepEqual(by("policy", "reason"), [
    "CiliumNetworkPolicy:shop/db > POLICY_DENIED",
    "CiliumNetworkPolicy:shop/db > ",
  ]);
  assert.deepEqual(by("namespace"), ["shop > shop", "shop > api.example.org"]);
  for (const wrong of [["pods"], ["label:"], ["port", "node", "pod", "policy", "verdict"]]) {
    assert.throws(() => checkGroups(wrong, ""), UsageError, wrong.join());
  }
  assert.throws(() => checkGroups(["workloads"], ""), /did you mean "workload"/);
});

Deno.test("connectionsText() and groupsText() say how much of what happened they show", () => {
  const items = connectionsOf([asked(10), answered(12), denied(11, 4001)]).map(({ connection }) =>
    connection
  );
  const completeness = Completeness.create({
    text: "3 of 9 flows",
    losses: [{ source: "HUBBLE_RING_BUFFER", node: "node-2", lost: 4 }],
    gaps: [{ node: "", sinceUnixS: 5, untilUnixS: 0 }],
  });
  const view = { items, more: 2, completeness };
  const table = connectionsText(view, "table");
  assert.match(
    table,
    /Jan {2}1 00:00:10\.000 +2s +SILENT +shop\/cart-1:4000 +shop\/db-0:5432 +TCP +1\/1 +FORWARDED BY shop\/db \(Cil/,
  );
  assert.match(table, /DENIED .* DROPPED BY default deny of shop\/db/);
  assert.doesNotMatch(table, /BYTES/, "what nobody counted is no zero");
  assert.match(
    table,
    /\n3 of 9 flows; 4 events lost of node-2 \(HUBBLE_RING_BUFFER\); nothing is known from Jan {2}1 00:00:05\.000 on; 2 connections more \(--limit\)\n$/,
  );
  const counted = items.map((one) => ({
    ...one,
    trafficKnown: true,
    packets: 3,
    bytes: 1500,
    replyPackets: 2,
    replyBytes: 90,
  }));
  assert.match(connectionsText({ ...view, items: counted }, "table"), /3\/2 +1\.5 kB\/90 B/);
  assert.equal(JSON.parse(connectionsText(view, "json")).completeness.text, "3 of 9 flows");
  const groups = groupConnections(items, ["port"]);
  assert.match(groupsText({ ...view, items: groups }, ["port"], "table"), /^PORT +FLOWS.*\n5432 +3 +2 +1 /);
  assert.equal(groupsText({ ...view, items: [], more: 0 }, ["port"], "table").split("\n").length, 2);
  assert.deepEqual([lengthText(0.26), lengthText(75), lengthText(7300), bytesText(999)], [
    "0.3s",
    "1m15s",
    "2h1m",
    "999 B",
  ]);
});

Deno.test("readConnectionArgs() takes filters, times and groups, and refuses what is nothing", () => {
  const words = [
    "--since",
    "2h",
    "--pod",
    "shop/cart",
    "--not",
    "--port",
    "53",
    "--group-by",
    "label:app",
    "-o",
    "json",
  ];
  assert.deepEqual(readConnectionArgs(words), {
    query: { since: ["2h"], pod: ["shop/cart"], "not-port": ["53"] },
    form: "json",
    limit: 100,
    groupBy: ["label:app"],
  });
  for (
    const bad of [["--limit", "0"], ["--group-by", "pods"], ["-o", "compact"], ["--first", "3"], ["x"], [
      "--not",
    ]]
  ) {
    assert.throws(() => readConnectionArgs(bad), UsageError, bad.join(" "));
  }
  assert.throws(() => readObserveArgs(["-f", "--group-by", "pod"]), UsageError);
});
