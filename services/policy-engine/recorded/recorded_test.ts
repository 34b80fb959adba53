import assert from "node:assert/strict";
import { Selector } from "@weir/common";
import { readInventory } from "../offline/mod.ts";
import { ENDLESS_BYTES_MAX, FlowFileError, FlowFileReader, LINE_BYTES_MAX } from "./flow_file.ts";
import { JudgedCluster, newRepository } from "./judged_cluster.ts";
import { previewPolicies } from "./preview.ts";
import { recommend } from "./recommend.ts";
import { policyYaml } from "./recommend_yaml.ts";
import { clusterOf, type RecordedEnd } from "./recorded_end.ts";
import { FlowRecorder, type FlowRecorderOptions } from "./recorder.ts";
import { SEEN_MAX, SeenSet } from "./seen_set.ts";

const T0 = Date.parse("2026-11-22T10:00:00Z");
const pod = (app: string, namespace = "shop", more: string[] = []) => ({
  identity: 1000 + app.length,
  namespace,
  labels: [
    `k8s:app=${app}`,
    "k8s:io.cilium.k8s.policy.cluster=east",
    `k8s:io.kubernetes.pod.namespace=${namespace}`,
    ...more,
  ],
  pod_name: `${app}-6f8c9d7b5c-x2x4z`,
  workloads: [{ name: app, kind: "Deployment" }],
});
const world = { identity: 2, labels: ["reserved:world"] };
let port = 30_000;
// deno-lint-ignore no-explicit-any
type Loose = any;
/** A flow as Hubble prints it; `change` goes over it. */
const flow = (source: Loose, destination: Loose, change: Loose = {}) => ({
  flow: {
    time: "2026-11-22T10:00:00.123456789Z",
    verdict: "FORWARDED",
    IP: { source: "10.0.0.1", destination: "10.0.0.2", ipVersion: "IPv4" },
    l4: { TCP: { source_port: ++port, destination_port: 8080, flags: { SYN: true } } },
    source,
    destination,
    Type: "L3_L4",
    node_name: "east/node-b",
    event_type: { type: 5 },
    traffic_direction: "INGRESS",
    is_reply: false,
    ...change,
  },
  node_name: "east/node-b",
});

function record(lines: readonly (string | object)[], options: FlowRecorderOptions = {}) {
  const recorder = new FlowRecorder(options), reader = new FlowFileReader(recorder);
  const text = lines.map((line) => typeof line === "string" ? line : JSON.stringify(line)).join("\n");
  reader.push(new TextEncoder().encode(text));
  reader.end();
  return { recorder, reader };
}
const kinds = ({ connections }: FlowRecorder) =>
  connections.map(({ from, to, port, passed, denied }) =>
    `${from.name} -> ${to.name} ${port} ${passed}/${denied}`
  );

async function preview(
  recorder: FlowRecorder,
  text: string,
  { current, entriesMax }: { current?: string; entriesMax?: number } = {},
) {
  const read = (text: string) => {
    const { policies, faults } = readInventory([{ file: "new.yaml", text }], { cluster: "east" });
    assert.deepEqual(faults, []);
    return policies;
  };
  const repository = newRepository();
  for (const policy of current === undefined ? [] : read(current)) repository.upsertPolicy(policy);
  const cluster = new JudgedCluster(repository, recorder.book, { cluster: "east" });
  return await previewPolicies(cluster, recorder.connections, read(text), {
    basis: current === undefined ? "record" : "policies",
    entriesMax,
  });
}
const policy = (name: string, spec: string) =>
  `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: ${name}, namespace: shop }\nspec:\n  ${spec}\n`;
const allow = (...apps: string[]) =>
  policy(
    "db",
    `endpointSelector: { matchLabels: { app: db } }\n  ingress:\n  - fromEndpoints: [${
      apps.map((app) => `{ matchLabels: { app: ${app} } }`)
    }]`,
  );

Deno.test("FlowRecorder counts a connection once, at whatever point and end it was seen, and turns answers round", () => {
  const web = pod("web"), db = pod("db");
  const l4 = { TCP: { source_port: 4000, destination_port: 8080 } };
  const back = {
    IP: { source: "10.0.0.2", destination: "10.0.0.1" },
    l4: { TCP: { source_port: 8080, destination_port: 4000 } },
    is_reply: true,
  };
  const { recorder } = record([
    flow(web, db, { l4 }),
    flow(web, db, { l4, traffic_direction: "EGRESS", node_name: "east/node-a" }),
    flow(db, web, back),
    // One that is known by an answer alone.
    flow(db, web, { ...back, l4: { TCP: { source_port: 5432, destination_port: 4001 } } }),
    flow(web, db, { verdict: "DROPPED", drop_reason_desc: "POLICY_DENIED", is_reply: undefined }),
    // Without a word about who asked, a SYN tells.
    flow(db, web, {
      ...back,
      is_reply: undefined,
      l4: { TCP: { ...back.l4.TCP, flags: { SYN: true, ACK: true } } },
    }),
    flow(web, db, {
      is_reply: null,
      l4: { TCP: { source_port: 1, destination_port: 2, flags: { ACK: true } } },
    }),
    flow(web, db, { l4: { ICMPv4: { type: 8 } } }),
    flow(db, web, { is_reply: true, l4: { ICMPv4: { type: 0 } }, IP: back.IP }),
    flow(db, web, { is_reply: true, l4: { ICMPv4: { type: 3 } }, IP: back.IP }),
    flow(web, world, { destination_service: { name: "db", namespace: "shop" } }),
    flow(web, db, { verdict: "DROPPED", drop_reason_desc: "CT_MAP_INSERTION_FAILED" }),
    flow(web, db, { verdict: "TRANSLATED", Type: "SOCK" }),
    flow(web, undefined),
    // Its number alone: others say who that is.
    flow({ identity: web.identity }, db, { l4: { UDP: { source_port: 7, destination_port: 53 } } }),
  ]);
  assert.deepEqual(kinds(recorder), [
    "shop/web -> shop/db 8080 1/1",
    "shop/web -> shop/db 5432 1/0",
    "shop/web -> shop/db 8 1/0",
    "identity 1003 -> shop/db 53 1/0",
  ]);
  assert.equal(recorder.connections[1].byAnswers, 1);
  assert.deepEqual(Object.fromEntries(recorder.leftOut), {
    direction: 1,
    answers: 1,
    untranslated: 1,
    dropped: 1,
    sockets: 1,
    ends: 1,
  });
  assert.deepEqual([...recorder.book.ends[0].nodes], ["east/node-a"]);
  assert.equal(clusterOf(recorder.book.ends), "east");
});

Deno.test("previewPolicies() says what closes, opens and stays, by rule and line, at both ends of each connection", async () => {
  const web = pod("web"), job = pod("job"), db = pod("db");
  const { recorder } = record([
    flow(web, db),
    flow(web, db),
    flow(job, db),
    flow(job, db, { verdict: "DROPPED", drop_reason: 133 }),
    flow(db, world, { IP: { source: "10.0.0.2", destination: "192.0.2.7" }, traffic_direction: "EGRESS" }),
    flow(db, world, {
      IP: { source: "10.0.0.2", destination: "198.51.100.7" },
      destination_names: ["api.example.com"],
      traffic_direction: "EGRESS",
    }),
    flow({ identity: 1, labels: ["reserved:host"] }, db),
  ]);
  const ofRecord = await preview(recorder, allow("web"));
  const rows = (found: Awaited<ReturnType<typeof preview>>) =>
    found.changes.map(({ effect, from, to, connections, rules }) =>
      `${effect} ${from} -> ${to} ${connections} ${rules.map(({ file, line }) => `${file}:${line}`)}`
    );
  assert.deepEqual(rows(ofRecord), ["closes shop/job -> shop/db 1 new.yaml:7"]);
  assert.deepEqual([ofRecord.counts.staysOpen, ofRecord.counts.staysClosed], [5, 1]);
  // By the policies of before all of job's connections passed or none did, whatever the record says.
  const ofPolicies = await preview(recorder, allow("web"), { current: allow("web", "job") });
  assert.deepEqual(rows(ofPolicies), ["closes shop/job -> shop/db 2 new.yaml:7"]);
  assert.equal(ofPolicies.counts.otherwise, 1);
  assert.deepEqual(rows(await preview(recorder, allow("web", "job"), { current: allow("web") })), [
    "opens shop/job -> shop/db 2 new.yaml:7",
  ]);
  const egress = policy(
    "out",
    "endpointSelector: { matchLabels: { app: db } }\n  egress:\n  - toFQDNs: [{ matchPattern: '*.example.com' }]\n  - toCIDR: [203.0.113.0/24]",
  );
  assert.deepEqual(rows(await preview(recorder, egress)), ["closes shop/db -> world (IPv4) 1 new.yaml:7"]);
  // Policies that are not given denied it: an egress policy of another pod says nothing of that.
  assert.equal((await preview(recorder, egress)).counts.unjudged, 1);
  assert.deepEqual(rows(await preview(recorder, allow("web", "job"))), [
    "opens shop/job -> shop/db 1 new.yaml:7",
  ]);
  const { maps } = await preview(recorder, allow("web", "job"), { entriesMax: 1 });
  assert.deepEqual(maps.nodes.map(({ node, entries }) => [node, entries]), [["east/node-b", 2]]);
  const [{ name, entries, rules: [costly] }] = maps.tooLarge;
  assert.deepEqual([name, entries, costly.source.line], ["shop/db", 2, 7]);
});

Deno.test("FlowFileReader counts what is no flow, names the line, and goes on", () => {
  const good = flow(pod("web"), pod("db"));
  const many = Array.from({ length: 300 }, (_, at) => `k8s:l${at}=x`);
  const { recorder, reader } = record([
    "no JSON",
    "[]",
    "null",
    "{}",
    '{"flow":5}',
    { flow: { ...good.flow, l4: { TCP: { source_port: "x", destination_port: 1 } } } },
    { flow: { ...good.flow, l4: { TCP: { source_port: 1, destination_port: 99_999 } } } },
    { flow: { ...good.flow, source: { labels: "k8s:app=web" } } },
    { flow: { ...good.flow, source: { labels: [5] } } },
    { flow: { ...good.flow, source: { labels: many } } },
    { flow: { ...good.flow, source: { labels: ["k8s:a=b\u0000c"] } } },
    { flow: { ...good.flow, is_reply: "no" } },
    // In the place where the reader keeps what it knows.
    '{"flow":{"source":0,"destination":1,"verdict":"FORWARDED","Type":"L3_L4"}}',
    "x".repeat(LINE_BYTES_MAX + 1),
    good,
    { ...good.flow, l4: { TCP: { source_port: 1, destination_port: 8080 } } },
    { lost_events: { source: "HUBBLE_RING_BUFFER", num_events_lost: "12" } },
    { node_status: { state_change: "NODE_UNAVAILABLE", node_names: ["node-c"] } },
    { agent_event: {} },
    "",
    JSON.stringify(flow(pod("job"), pod("db"))),
  ]);
  assert.equal(reader.unread, 14, reader.faults.join("\n"));
  assert.equal(reader.tooLong, 1);
  assert.match(reader.faults[0], /^line 1: no JSON/);
  assert.deepEqual(kinds(recorder), ["shop/web -> shop/db 8080 2/0", "shop/job -> shop/db 8080 1/0"]);
  assert.deepEqual([...reader.lost], [["HUBBLE_RING_BUFFER", 12]]);
  assert.deepEqual([...reader.away, reader.others], ["node-c", 1]);
  // Cut anywhere, it says the same.
  const text = new TextEncoder().encode([good, "bad", good].map((line) => JSON.stringify(line)).join("\n"));
  for (const size of [1, 7, 64]) {
    const cut = new FlowFileReader(new FlowRecorder());
    for (let at = 0; at < text.length; at += size) cut.push(text.subarray(at, at + size));
    cut.end();
    assert.deepEqual([cut.lines, cut.unread, cut.recorder.flows], [3, 1, 2]);
  }
  const endless = new FlowFileReader(new FlowRecorder()), zeros = new Uint8Array(8 << 20);
  assert.throws(() => {
    for (let at = 0; at <= ENDLESS_BYTES_MAX; at += zeros.length) endless.push(zeros);
  }, FlowFileError);
});

Deno.test("FlowRecorder keeps to its window, tells clocks that are ahead, and has no room without end", () => {
  const at = (time: string | undefined) => flow(pod("web"), pod("db"), { time });
  const { recorder } = record(
    [
      at("2026-11-22T09:00:00Z"),
      at("2026-11-22T10:00:00Z"),
      at("2026-11-22T12:00:00Z"),
      at("never"),
      at(undefined),
    ],
    { sinceMs: T0 - 1000, nowMs: T0 },
  );
  assert.deepEqual([recorder.ahead, Object.fromEntries(recorder.leftOut)], [1, { window: 1, times: 2 }]);
  assert.deepEqual(kinds(recorder), ["shop/web -> shop/db 8080 2/0"]);

  // Addresses without end: what has no room is counted.
  const endsMax = 1000, full = new FlowRecorder({ endsMax }), facts = flowFacts();
  for (let i = 0; i < endsMax + 10; i++) {
    full.add({ ...facts, sourceIp: `2001:db8::${(i >> 16).toString(16)}:${(i & 0xffff).toString(16)}` });
  }
  assert.equal(full.book.ends.length, endsMax);
  assert.equal(full.leftOut.get("room"), 11);
  const seen = new SeenSet();
  let fresh = 0;
  for (let i = 1; i <= SEEN_MAX + 100; i++) if (seen.add(i)) fresh++;
  assert.deepEqual([fresh, seen.add(SEEN_MAX + 100), seen.add(1)], [SEEN_MAX + 100, false, false]);
});

function flowFacts() {
  const { recorder } = record([]);
  let taken: Loose;
  recorder.add = (flow) => taken = flow;
  const reader = new FlowFileReader(recorder);
  reader.push(new TextEncoder().encode(JSON.stringify(flow(world, pod("db"))) + "\n"));
  return taken;
}

/** Numbers that look random and are the same for the same seed (mulberry32). */
function randomOf(seed: number): (below: number) => number {
  return (below) => {
    seed = seed + 0x6d2b_79f5 | 0;
    let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) % below;
  };
}

function randomRecord(random: (below: number) => number) {
  const ends = [
    ...["web", "db", "job", "dns"].flatMap((app) => [pod(app), pod(app, "ops")]),
    // Whom the selector of another means too, but for one label.
    pod("web", "shop", ["k8s:tier=front"]),
    pod("db", "shop", ["k8s:role=replica", "k8s:tier=back"]),
    { identity: 1, labels: ["reserved:host"] },
    { identity: 7, labels: ["reserved:kube-apiserver", "reserved:remote-node"] },
    world,
  ];
  const ports = [{ TCP: 80 }, { TCP: 5432 }, { UDP: 53 }, { ICMPv4: 8 }];
  return Array.from({ length: 12 + random(30) }, () => {
    const from = ends[random(ends.length)], to = ends[random(ends.length)];
    const [[name, number]] = Object.entries(ports[random(ports.length)]);
    const host = random(6),
      address = (end: Loose, at: number) => end === world ? `203.0.113.${host}` : `10.0.0.${at}`;
    return flow(from, to, {
      IP: { source: address(from, 1), destination: address(to, 2) },
      l4: {
        [name]: name === "ICMPv4" ? { type: number } : { source_port: ++port, destination_port: number },
      },
      ...to === world && host % 2 === 0 ? { destination_names: [`h${host}.example.com`] } : {},
      ...random(8) === 0 ? { verdict: "DROPPED", drop_reason_desc: "POLICY_DENIED" } : {},
    });
  });
}

Deno.test("recommend() allows what passed, and nobody and nothing else, by the engine itself", () => {
  const labels = { app: "web" }, selector = Selector.parse({ matchLabels: labels });
  for (let seed = 1; seed <= 6; seed++) {
    const { recorder } = record(randomRecord(randomOf(seed))), { book, connections } = recorder;
    const policies = recommend(book, connections, { selector, cluster: "east", names: true });
    const yaml = policies.map((policy) =>
      policyYaml(policy, { kind: "CiliumNetworkPolicy", name: "web", labels, l7: false, head: ["x\ny: z"] })
    ).join("---\n");
    const read = readInventory([{ file: "r.yaml", text: yaml }], { cluster: "east" });
    assert.deepEqual(read.faults, [], `seed ${seed}:\n${yaml}`);
    const repository = newRepository();
    for (const policy of read.policies) repository.upsertPolicy(policy);
    const cluster = new JudgedCluster(repository, book, { cluster: "east" });
    const isMeant = (end: RecordedEnd) => end.kind === "pod" && selector.matches(end.labels);
    // Of a namespace all workloads that are meant have one policy.
    const key = (own: RecordedEnd, way: string, peer: RecordedEnd, protocol: number, port: number) =>
      [
        own.namespace,
        way,
        peer.kind === "pod" ? `${peer.namespace} ${peer.labels}` : peer.key,
        protocol,
        port,
      ].join("|");
    const seen = new Set<string>(), kinds = new Map<string, { protocol: number; port: number }>();
    for (const { from, to, protocol, port, passed } of connections) {
      kinds.set(`${protocol}/${port}`, { protocol, port });
      if (passed === 0) continue;
      if (isMeant(from)) seen.add(key(from, "to", to, protocol, port));
      if (isMeant(to)) seen.add(key(to, "from", from, protocol, port));
    }
    for (const from of book.ends) {
      for (const to of book.ends) {
        if (!isMeant(from) && !isMeant(to)) continue;
        for (const { protocol, port } of kinds.values()) {
          const isHost = from.kind === "reserved" && from.identity === 1;
          const expected = (!isMeant(from) || seen.has(key(from, "to", to, protocol, port))) &&
            (!isMeant(to) || isHost || seen.has(key(to, "from", from, protocol, port)));
          const found = cluster.judge({ from, to, protocol, port })?.allowed;
          assert.equal(
            found,
            expected,
            `seed ${seed}: ${from.key} -> ${to.key} ${port}/${protocol}\n${yaml}`,
          );
        }
      }
    }
  }
});
