import { deepEqual } from "node:assert/strict";
import { Flow } from "@weir/proto/flow";
import { checkFlows, type Sent } from "./flow_check.ts";
import type { Outcome } from "./scenario.ts";

const ANSWERED: Outcome = { kind: "answered" };
const DENIED: Outcome = { kind: "dropped", side: "ingress", reason: "POLICY_DENIED", policy: "web" };

const sent = (expect: Outcome, more: Partial<Sent> = {}): Sent => ({
  protocol: "TCP",
  froms: [{ address: "10.0.0.1", port: 40000 }],
  destination: "10.0.1.1",
  port: 80,
  isToPod: true,
  expect,
  ...more,
});

type Fields = Parameters<typeof Flow.create>[0];
const flow = (fields: Fields) =>
  Flow.create({
    verdict: "FORWARDED",
    event_type: { type: 4 },
    trace_observation_point: "TO_ENDPOINT",
    ...fields,
  });
const there = (flags: string[], fields: Fields = {}) =>
  flow({
    IP: { source: "10.0.0.1", destination: "10.0.1.1" },
    l4: {
      TCP: {
        source_port: 40000,
        destination_port: 80,
        flags: Object.fromEntries(flags.map((one) => [one, true])),
      },
    },
    ...fields,
  });
const back = (flags: string[], fields: Fields = {}) =>
  flow({
    IP: { source: "10.0.1.1", destination: "10.0.0.1" },
    l4: {
      TCP: {
        source_port: 80,
        destination_port: 40000,
        flags: Object.fromEntries(flags.map((one) => [one, true])),
      },
    },
    is_reply: { value: true } as never,
    ...fields,
  });
const DROP: Fields = {
  verdict: "DROPPED",
  event_type: { type: 1 },
  trace_observation_point: "UNKNOWN_POINT",
  drop_reason_desc: "POLICY_DENIED",
  traffic_direction: "INGRESS",
  ingress_denied_by: [{ name: "web" }],
  node_name: "default/node-2",
};
const WHOLE = [there(["SYN"]), back(["SYN", "ACK"]), there(["FIN", "ACK"])];

const cases: [claim: string, sent: Sent, flows: Flow[], missing: string[], unexpected: string[]][] = [
  ["a whole connection has all", sent(ANSWERED), WHOLE, [], []],
  ["nothing seen lacks everything", sent(ANSWERED), [], [
    ...["a forwarded SYN", "a forwarded SYN-ACK", "a FIN or RST at the end"],
    "a flow that goes into the pod (to-endpoint)",
  ], []],
  [
    "another port is another connection",
    sent(ANSWERED, { froms: [{ address: "10.0.0.1", port: 1 }], isToPod: false }),
    WHOLE,
    [
      ...["a forwarded SYN", "a forwarded SYN-ACK", "a FIN or RST at the end"],
    ],
    [],
  ],
  [
    "a translated port is found as the far end saw it",
    sent(ANSWERED, { froms: [{ address: "192.0.2.9", port: 5 }, { address: "10.0.0.1", port: 40000 }] }),
    WHOLE,
    [],
    [],
  ],
  ["a drop among what was answered is told", sent(ANSWERED), [...WHOLE, there(["ACK"], DROP)], [], [
    "a drop: POLICY_DENIED at default/node-2",
  ]],
  ["the allowing policy must be named", sent({ ...ANSWERED, policies: { ingress: "web" } }), WHOLE, [
    "policy web behind the ingress verdict",
  ], []],
  ["a denial is a drop with reason, side and policy", sent(DENIED), [there(["SYN"], DROP)], [], []],
  [
    "a denial without a port that is known",
    sent(DENIED, { froms: [{ address: "10.0.0.1", port: 0 }] }),
    [there(["SYN"], DROP)],
    [],
    [],
  ],
  ["a drop for another reason is no denial", sent(DENIED), [
    there(["SYN"], { ...DROP, drop_reason_desc: "CT_MAP_INSERTION_FAILED" }),
  ], [
    "a drop with POLICY_DENIED at ingress (seen: CT_MAP_INSERTION_FAILED INGRESS)",
  ], []],
  ["a drop on the other side is no denial", sent(DENIED), [
    there(["SYN"], { ...DROP, traffic_direction: "EGRESS" }),
  ], [
    "a drop with POLICY_DENIED at ingress (seen: POLICY_DENIED EGRESS)",
  ], []],
  ["a drop by another policy is told", sent(DENIED), [
    there(["SYN"], { ...DROP, ingress_denied_by: [{ name: "x" }] }),
  ], [
    "policy web behind the drop",
  ], []],
  ["what was denied and went in all the same is told", sent(DENIED), [there(["SYN"], DROP), ...WHOLE], [], [
    "an answer that was forwarded",
    "a flow that goes into the pod (to-endpoint)",
  ]],
  [
    "what is denied at egress does not leave the source",
    sent({ ...DENIED, side: "egress" }),
    [
      there(["SYN"], { ...DROP, traffic_direction: "EGRESS", egress_denied_by: [{ name: "web" }] }),
      there(["SYN"], { trace_observation_point: "TO_OVERLAY" }),
    ],
    [],
    ["a flow that leaves the source"],
  ],
];

for (const [claim, one, flows, missing, unexpected] of cases) {
  Deno.test(`checkFlows(): ${claim}`, () => deepEqual(checkFlows(one, flows), { missing, unexpected }));
}

Deno.test("checkFlows() tells echo requests and replies by their types", () => {
  const icmp = (source: string, destination: string, type: number) =>
    flow({ IP: { source, destination }, l4: { ICMPv6: { type } } });
  const request = icmp("fd00::1", "fd00::2", 128), reply = icmp("fd00::2", "fd00::1", 129);
  const one = sent(ANSWERED, {
    protocol: "ICMP",
    froms: [{ address: "fd00::1", port: 0 }],
    destination: "fd00::2",
    port: 0,
  });
  deepEqual(checkFlows(one, [request, reply]), { missing: [], unexpected: [] });
  deepEqual(checkFlows(one, [request]).missing, ["a forwarded echo reply"]);
});
