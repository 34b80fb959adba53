import { deepEqual } from "node:assert/strict";
import type { DatapathEvent } from "../event.ts";
import { buildFlow, type KnownAddress, type Names } from "../flow_builder.ts";
import { SeenNames } from "../seen_flow.ts";
import { CountedEvent, countedFlow } from "./counted_flow.ts";
import { metricsOf } from "./testing.ts";

const hex = (text: string) => Uint8Array.from(text.replace(/\s/g, "").match(/../g)!, (b) => parseInt(b, 16));
const ADDRESSES: Record<string, KnownAddress> = {
  "10.0.1.5": { identity: 300, namespace: "shop", podName: "cart", labels: ["k8s:app=cart"] },
  "10.0.2.7": { identity: 400, namespace: "shop", podName: "db-0", labels: ["k8s:app=db"] },
};
const names: Names = {
  nodeName: "n",
  cluster: "c",
  address: (ip) => ADDRESSES[ip],
  identityLabels: (id) => id === 300 ? ["k8s:app=cart"] : id === 400 ? ["k8s:app=db"] : undefined,
  rule: () => undefined,
  endpointAddresses: (id) => id === 7 ? ["10.0.1.5"] : id === 8 ? ["10.0.2.7"] : [],
  endpoint: (id) => id === 7 ? ADDRESSES["10.0.1.5"] : id === 8 ? ADDRESSES["10.0.2.7"] : undefined,
  interfaceName: () => "",
  service: (id) => id === 12 ? { namespace: "shop", name: "db" } : undefined,
  serviceAt: (ip, port) => ip === "10.96.0.1" && port === 80 ? { namespace: "shop", name: "vip" } : undefined,
};

/** Everything that a metric can say, of every kind. */
const EVERYTHING =
  ["drop", "flow", "tcp", "icmp", "policy", "port-distribution", "sctp"].map((name) =>
    `${name}:sourceContext=identity|reserved-identity;destinationContext=identity|reserved-identity;labelsContext=` +
    "source_ip,source_pod,source_namespace,source_workload,source_app,destination_ip,destination_pod," +
    "destination_namespace,destination_workload,destination_app,traffic_direction"
  ).join(" ") + " flows-to-world:any-drop;port";

const IPS: Record<string, string> = { cart: "0a000105", db: "0a000207", vip: "0a600001", world: "08080808" };
const PAYLOADS: [protocol: string, bytes: string][] = [
  ["06", "a8a4 0050 00000001 00000000 5002 7210 0000 0000"],
  ["06", "0050 a8a4 00000001 00000000 5012 7210 0000 0000"],
  ["06", "a8a4 0050 00000001 00000000 5011 7210 0000 0000"],
  ["11", "a8a4 0035 0008 0000"],
  ["84", "a8a4 0050 00000001 00000000 01000014"],
  ["84", "a8a4 0050 00000001 00000000 00000014"],
  ["01", "08000000 00000000"],
  ["01", "03040000 000005dc"],
  ["32", "00000000"],
];

function* events(): Generator<DatapathEvent[]> {
  for (const source of ["cart", "world"]) {
    for (const destination of ["db", "vip", "world"]) {
      for (const [protocol, payload] of PAYLOADS) {
        for (const [sourceIdentity, destinationIdentity, service] of [[300, 400, 0], [0, 0, 0], [2, 0, 12]]) {
          const base = {
            timeNs: 1,
            endpointId: 7,
            sourceIdentity,
            destinationIdentity,
            ifindex: 4,
            service,
            packet: hex(
              `020000000002 020000000001 0800 4500 0034 0000 4000 40${protocol} 0000 ` +
                `${IPS[source]} ${IPS[destination]} ${payload}`,
            ),
            layer: 2 as const,
          };
          const verdict = { ...base, kind: "policy-verdict" as const, cookie: 0, audited: false };
          yield [
            { ...verdict, verdict: -133, direction: "EGRESS", matchType: 0 },
            { ...base, kind: "drop", reason: 133, direction: "EGRESS", file: "", line: 0, cookie: 0 },
          ];
          yield [
            { ...verdict, verdict: 0, direction: "EGRESS", matchType: 1 },
            { ...verdict, endpointId: 8, verdict: 9000, direction: "INGRESS", matchType: 2 },
            { ...base, kind: "trace", endpointId: 8, point: 0, reason: 0 },
          ];
          yield [{ ...verdict, verdict: 0, direction: "INGRESS", matchType: 4, audited: true }];
          for (const reason of [1, 2, 3, 5]) yield [{ ...base, kind: "trace", point: 11, reason }];
          for (const reply of [true, false, undefined]) {
            yield [{
              ...base,
              kind: "drop",
              reason: 132,
              direction: "EGRESS",
              reply,
              file: "",
              line: 0,
              cookie: 0,
            }];
            yield [{
              ...base,
              kind: "drop",
              reason: 155,
              direction: "UNKNOWN",
              reply,
              file: "",
              line: 0,
              cookie: 0,
            }];
          }
          for (const trouble of [1, 2, 3, 4, 5, 6]) {
            const waitedMs = trouble < 3 ? 1000 : 0;
            yield [{ ...base, kind: "trouble", trouble, waitedMs, tries: 1, mtu: 0, byEndpoint: false }];
          }
        }
      }
    }
  }
}

Deno.test("CountedEvent counts what the whole flow of the same event would", () => {
  const lazy = metricsOf(EVERYTHING, { seriesMax: 1e6 }), whole = metricsOf(EVERYTHING, { seriesMax: 1e6 });
  let counted = 0;
  for (const batch of events()) {
    const seen = new SeenNames(batch, names);
    for (const event of batch) {
      counted++;
      lazy.count(new CountedEvent(event, seen));
      whole.count(countedFlow(buildFlow(event, names, { bootUnixS: 0, uuid: "" })));
    }
  }
  const differ = (a: string[], b: string[]) => a.filter((line) => !b.includes(line)).slice(0, 5);
  deepEqual(differ(lazy.render(), whole.render()), differ(whole.render(), lazy.render()));
  deepEqual([counted > 2000, lazy.render().length > 500], [true, true], `${counted} ${lazy.render().length}`);
});
