import assert from "node:assert/strict";
import { Rule } from "@weir/proto/policy";
import type { DropEvent, PolicyVerdictEvent, TraceEvent } from "./event.ts";
import { buildFlow, type Names } from "./flow_builder.ts";
import { SeenNames } from "./seen_flow.ts";

const hex = (text: string) => Uint8Array.from(text.replace(/\s/g, "").match(/../g)!, (b) => parseInt(b, 16));
const SYN = hex(
  "020000000002 020000000001 0800 4500 0034 0000 4000 4006 0000 0a000105 0a000207 a8a4 0050 00000001 00000000 5002 7210 0000 0000",
);
const names: Names = {
  nodeName: "node-1",
  cluster: "default",
  address: (ip) =>
    ip === "10.0.1.5"
      ? { identity: 300, namespace: "shop", podName: "cart", labels: ["k8s:app=cart"] }
      : ip === "10.0.2.7"
      ? { identity: 400, namespace: "shop", podName: "db", labels: ["k8s:app=db"] }
      : undefined,
  identityLabels: (n) => n === 300 ? ["k8s:app=cart"] : n === 400 ? ["k8s:app=db"] : undefined,
  rule: (cookie) =>
    cookie === 9
      ? Rule.create({
        cookie: 9,
        sources: [
          {
            policy: "cnp:shop/db",
            kind: "CiliumNetworkPolicy",
            namespace: "shop",
            policyName: "db",
            path: "spec.ingress[0]",
          },
          {
            policy: "cnp:shop/db",
            kind: "CiliumNetworkPolicy",
            namespace: "shop",
            policyName: "db",
            path: "spec.ingress[1]",
          },
        ],
      })
      : undefined,
  endpointAddresses: (id) => id === 7 ? ["10.0.1.5"] : id === 8 ? ["10.0.2.7"] : [],
  endpoint: (id) => id === 7 ? names.address("10.0.1.5") : id === 8 ? names.address("10.0.2.7") : undefined,
  interfaceName: (index) => `weir${index}`,
  service: (id) => id === 12 ? { namespace: "shop", name: "db" } : undefined,
  serviceAt: (address, port, protocol) =>
    `${address}:${port}/${protocol}` === "10.0.2.7:80/TCP" ? { namespace: "shop", name: "vip" } : undefined,
};
const base = {
  timeNs: 1_500_000_000,
  endpointId: 7,
  sourceIdentity: 300,
  destinationIdentity: 400,
  ifindex: 4,
  service: 0,
  packet: SYN,
  layer: 2 as const,
};
const context = { bootUnixS: 1000, uuid: "u" };

Deno.test("buildFlow() names the endpoint that sent a packet with somebody else's address", () => {
  const drop = (reason: number, endpointId = 7): DropEvent => ({
    ...base,
    kind: "drop",
    endpointId,
    packet: SYN.with(29, 99),
    reason,
    direction: "EGRESS",
    file: "",
    line: 0,
    cookie: 0,
  });
  for (const reason of [132, 139, 166, 176]) {
    const { source, IP, Summary } = buildFlow(drop(reason), names, context);
    assert.deepEqual(
      [source?.namespace, source?.pod_name, source?.identity],
      ["shop", "cart", 300],
      `${reason}`,
    );
    assert.deepEqual([IP?.source, Summary], ["10.0.1.99", "TCP Flags: SYN; source 10.0.1.99"]);
  }
  for (const other of [drop(158), drop(132, 0), { ...drop(132), direction: "INGRESS" as const }]) {
    const { source, Summary } = buildFlow(other, names, context);
    assert.deepEqual([source?.pod_name, Summary], ["", "TCP Flags: SYN"]);
  }
  const own = buildFlow({ ...drop(132), packet: SYN }, names, context);
  assert.deepEqual([own.source?.pod_name, own.Summary], ["cart", "TCP Flags: SYN"]);
  const seen = buildFlow(drop(132), new SeenNames([drop(132)], names), context);
  assert.deepEqual(seen, buildFlow(drop(132), names, context));
});

Deno.test("buildFlow() names an endpoint without addresses of its own that sent with another's", () => {
  const nowhere: Names = { ...names, endpointAddresses: () => [] };
  const spoof: DropEvent = {
    ...base,
    kind: "drop",
    packet: SYN.with(29, 99),
    reason: 132,
    direction: "EGRESS",
    file: "",
    line: 0,
    cookie: 0,
  };
  assert.deepEqual(buildFlow(spoof, nowhere, context).source?.pod_name, "cart");
  assert.deepEqual(buildFlow(spoof, new SeenNames([spoof], nowhere), context).source?.pod_name, "cart");
});

Deno.test("buildFlow() says what is wrong with a flow in numbers and in words", () => {
  const trouble = {
    ...base,
    kind: "trouble" as const,
    trouble: 1,
    waitedMs: 1310,
    tries: 2,
    mtu: 0,
    byEndpoint: false,
  };
  const flow = buildFlow(trouble, names, context);
  assert.deepEqual([flow.event_type, flow.verdict], [{ type: 200, sub_type: 1 }, "FORWARDED"]);
  assert.deepEqual({ ...flow.trouble }, {
    kind: "no-answer",
    waited_s: 1.31,
    tries: 2,
    mtu: 0,
    by_endpoint: false,
    about_ip: "",
    about_port: 0,
  });
  assert.equal(flow.Summary, "no answer for 1.3 s, 2 SYNs sent");
  assert.deepEqual([flow.is_reply?.value, flow.traffic_direction], [false, "EGRESS"]);
  const said = (kind: number, byEndpoint: boolean) => {
    const flow = buildFlow(
      { ...trouble, trouble: kind, waitedMs: 0, tries: 0, mtu: 0, byEndpoint },
      names,
      context,
    );
    return [flow.trouble?.kind, flow.is_reply?.value, flow.Summary];
  };
  assert.deepEqual(said(2, true), ["refused", true, "connection refused by the endpoint itself"]);
  const stuck = buildFlow({ ...trouble, trouble: 6, waitedMs: 0, tries: 3, mtu: 1450 }, names, context);
  assert.equal(stuck.is_reply, undefined);
  assert.deepEqual([stuck.trouble?.kind, stuck.trouble?.tries, stuck.trouble?.mtu], [
    "retransmitted",
    3,
    1450,
  ]);
  assert.match(stuck.Summary, /the same 3 times again/);
  assert.deepEqual(said(3, false), [
    "unreachable",
    true,
    "unreachable, said by the other side or on the way",
  ]);
});

Deno.test('buildFlow() reads from a packet that says "too big" how much fits', () => {
  const error = Uint8Array.fromHex(
    "450000380000000040010000cb0071010a0001050304000000000578" + "4500057800004000401100000a000105c6336407",
  );
  const flow = buildFlow(
    {
      ...base,
      kind: "trouble",
      trouble: 4,
      waitedMs: 0,
      tries: 0,
      mtu: 0,
      byEndpoint: false,
      packet: error,
      layer: 3,
    },
    names,
    context,
  );
  assert.equal(flow.trouble?.mtu, 1400);
  assert.deepEqual([flow.trouble?.about_ip, flow.trouble?.about_port], ["198.51.100.7", 0]);
  assert.equal(flow.Summary, "a packet was too big, said by the other side or on the way: 1400 bytes fit");
});

Deno.test("buildFlow() names who sent a packet through the tunnel", () => {
  const flow = buildFlow(
    {
      ...base,
      kind: "drop",
      reason: 241,
      direction: "INGRESS",
      file: "sender.h",
      line: 1,
      cookie: 0,
      tunnel: { source: "192.0.2.66", vni: 300 },
    },
    names,
    context,
  );
  assert.equal(flow.drop_reason_desc, "TUNNEL_SOURCE_ELSEWHERE");
  assert.deepEqual([flow.tunnel?.protocol, flow.tunnel?.IP?.source, flow.tunnel?.vni], [
    "VXLAN",
    "192.0.2.66",
    300,
  ]);
});

Deno.test("buildFlow() names both ends, the drop reason and each policy of the cookie once", () => {
  const drop: DropEvent = {
    ...base,
    kind: "drop",
    reason: 133,
    direction: "INGRESS",
    file: "bpf_lxc.c",
    line: 12,
    cookie: 9,
  };
  const flow = buildFlow(drop, names, context);
  assert.equal(flow.verdict, "DROPPED");
  assert.equal(flow.drop_reason_desc, "POLICY_DENIED");
  assert.deepEqual(flow.ingress_denied_by.map((p) => [p.kind, p.namespace, p.name]), [[
    "CiliumNetworkPolicy",
    "shop",
    "db",
  ]]);
  assert.deepEqual([flow.source?.pod_name, flow.destination?.pod_name], ["cart", "db"]);
  assert.deepEqual(flow.time, { seconds: 1001, nanos: 500_000_000 });
  assert.equal(flow.Summary, "TCP Flags: SYN");
  assert.equal(flow.l4?.TCP?.destination_port, 80);
  assert.deepEqual(flow.event_type, { type: 1, sub_type: 133 });
  assert.equal(flow.is_reply?.value, false, "a bare SYN begins");
});

Deno.test("buildFlow() gives a drop its direction where conntrack, the service or the packet tells it", () => {
  const ack = SYN.with(14 + 20 + 13, 0x10), answer = SYN.with(14 + 20 + 13, 0x12);
  const cases: [
    what: string,
    reply: boolean | undefined,
    packet: Uint8Array,
    expected: boolean | undefined,
  ][] = [
    ["asks for a service", false, ack, false],
    ["an answer by conntrack", true, ack, true],
    ["a bare SYN", undefined, SYN, false],
    ["SYN and ACK", undefined, answer, true],
    ["dropped before anybody knew", undefined, ack, undefined],
  ];
  for (const [what, reply, packet, expected] of cases) {
    const flow = buildFlow(
      {
        ...base,
        packet,
        reply,
        kind: "drop",
        reason: 158,
        direction: "EGRESS",
        file: "",
        line: 0,
        cookie: 0,
      },
      names,
      context,
    );
    assert.equal(flow.is_reply?.value, expected, what);
    assert.equal(flow.reply, expected ?? false, what);
  }
});

Deno.test("buildFlow() gives a trace its direction from who began the connection", () => {
  const cases: [number, number, string, boolean | undefined][] = [
    [7, 0, "EGRESS", false],
    [8, 0, "INGRESS", false],
    [7, 2, "INGRESS", true],
    [8, 2, "EGRESS", true],
    [7, 5, "TRAFFIC_DIRECTION_UNKNOWN", undefined],
  ];
  for (const [endpointId, reason, direction, reply] of cases) {
    const trace: TraceEvent = { ...base, endpointId, kind: "trace", point: 0, reason };
    const flow = buildFlow(trace, names, context);
    assert.deepEqual(
      [flow.traffic_direction, flow.is_reply?.value],
      [direction, reply],
      `${endpointId} ${reason}`,
    );
    assert.equal(flow.trace_observation_point, "TO_ENDPOINT");
  }
});

Deno.test("buildFlow() takes a policy verdict as it was: allowed, denied, audited, redirected", () => {
  const verdict = (v: Partial<PolicyVerdictEvent>): PolicyVerdictEvent => ({
    ...base,
    kind: "policy-verdict",
    verdict: 0,
    direction: "EGRESS",
    matchType: 2,
    cookie: 9,
    audited: false,
    ...v,
  });
  const allowed = buildFlow(verdict({}), names, context);
  assert.equal(allowed.verdict, "FORWARDED");
  assert.equal(allowed.egress_allowed_by[0].name, "db");
  assert.equal(allowed.is_reply?.value, false);
  const denied = buildFlow(verdict({ verdict: -181, direction: "INGRESS" }), names, context);
  assert.equal(denied.drop_reason_desc, "POLICY_DENY");
  assert.equal(denied.ingress_denied_by.length, 1);
  assert.equal(buildFlow(verdict({ verdict: 10080 }), names, context).verdict, "REDIRECTED");
  const audited = buildFlow(verdict({ audited: true, direction: "INGRESS" }), names, context);
  assert.deepEqual([audited.verdict, audited.drop_reason], ["AUDIT", 0]);
  assert.deepEqual([audited.ingress_denied_by[0].name, audited.ingress_allowed_by], ["db", []]);
});

Deno.test("buildFlow() makes a flow of a packet that could not be read", () => {
  const flow = buildFlow(
    { ...base, kind: "trace", point: 3, reason: 0, packet: SYN.subarray(0, 9) },
    names,
    context,
  );
  assert.equal(flow.IP, undefined);
  assert.equal(flow.source?.identity, 300);
});

Deno.test("buildFlow() names the service at the end that was asked, by the event's id, else by address", () => {
  const trace = (reason: number, service: number) =>
    buildFlow({ ...base, service, kind: "trace", point: 0, reason }, names, context);
  const drop = (service: number) =>
    buildFlow(
      { ...base, service, kind: "drop", reason: 158, direction: "EGRESS", file: "", line: 0, cookie: 0 },
      names,
      context,
    );
  const cases: [string, ReturnType<typeof drop>, string | undefined, string | undefined][] = [
    ["forward", trace(1, 12), undefined, "db"],
    ["answer", trace(2, 12), "db", undefined],
    ["dropped", drop(12), undefined, "db"],
    ["an id that nobody knows", trace(1, 99), undefined, "vip"],
    ["no id, a frontend's address", drop(0), undefined, "vip"],
  ];
  for (const [what, flow, source, destination] of cases) {
    assert.deepEqual(
      [flow.source_service?.name, flow.destination_service?.name],
      [source, destination],
      what,
    );
  }
  assert.equal(drop(12).drop_reason_desc, "SERVICE_BACKEND_NOT_FOUND");
  assert.equal(drop(12).destination_service?.namespace, "shop");
  const nobody = buildFlow(
    {
      ...base,
      destinationIdentity: 0,
      packet: SYN.with(14 + 19, 99),
      service: 12,
      kind: "drop",
      reason: 158,
      direction: "EGRESS",
      file: "",
      line: 0,
      cookie: 0,
    },
    names,
    context,
  );
  assert.deepEqual([nobody.destination?.identity, nobody.destination?.labels], [0, []]);
});

Deno.test("buildFlow() has the DNS names by which the endpoint of the event knows each end", () => {
  const named: Names = {
    ...names,
    dnsNames: (address, id) =>
      address === "10.0.2.7" && id === 7 ? ["api.example.com", "db.example.com"] : [],
  };
  const trace: TraceEvent = { ...base, kind: "trace", point: 0, reason: 0 };
  const flow = buildFlow(trace, named, { bootUnixS: 0, uuid: "" });
  assert.deepEqual([flow.source_names, flow.destination_names], [[], ["api.example.com", "db.example.com"]]);
  const seen = new SeenNames([trace], named);
  assert.deepEqual([seen.dnsNames("10.0.2.7", 7), seen.dnsNames("10.0.1.5", 7)], [
    flow.destination_names,
    [],
  ]);
});
