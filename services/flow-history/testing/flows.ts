/** Flows for tests, as a relay gives them. @module */
import type { Flow } from "@weir/proto/flow";
import type { Init } from "@weir/proto";
import { GetFlowsResponse } from "@weir/proto/observer";
import { timestampOf } from "@weir/proto/timestamp";

/** What a test says of a flow. */
export interface FlowWords {
  readonly unixMs: number;
  readonly node?: string;
  readonly uuid?: string;
  /** Pod names in namespace shop; "" the world. */
  readonly from?: string;
  readonly to?: string;
  readonly port?: number;
  readonly sourcePort?: number;
  readonly isReply?: boolean;
  readonly flags?: Record<string, boolean>;
  readonly more?: Init<Flow>;
}

/** The bytes of an answer with this flow. */
export function flowBytes(words: FlowWords): Uint8Array {
  const { unixMs, node = "node-a", from = "cart-1", to = "db-1", port = 5432, sourcePort = 40_000, isReply } =
    words;
  const ends = [endOf(from), endOf(to)],
    ports = [sourcePort, port],
    addresses = [addressOf(from), addressOf(to)];
  if (isReply) { for (const pair of [ends, ports, addresses]) (pair as unknown[]).reverse(); }
  return GetFlowsResponse.encode({
    flow: {
      time: timestampOf(unixMs),
      uuid: words.uuid ?? crypto.randomUUID(),
      verdict: "FORWARDED",
      node_name: node,
      event_type: { type: 4, sub_type: 0 },
      is_reply: { value: isReply ?? false },
      IP: { source: addresses[0], destination: addresses[1], ipVersion: "IPv4" },
      l4: { TCP: { source_port: ports[0], destination_port: ports[1], flags: words.flags ?? {} } },
      source: ends[0],
      destination: ends[1],
      ...words.more,
    },
    node_name: node,
    time: timestampOf(unixMs),
  });
}

/** Flows that make a block of their own. */
export const blockful = (unixMs: number): Uint8Array[] =>
  Array.from({ length: 256 }, () => flowBytes({ unixMs }));

/** What a drop by policy has. */
export const DROPPED: Init<Flow> = {
  verdict: "DROPPED",
  drop_reason_desc: "POLICY_DENIED",
  event_type: { type: 1, sub_type: 133 },
  is_reply: undefined,
  ingress_denied_by: [{ kind: "CiliumNetworkPolicy", namespace: "shop", name: "deny-cart", line: 7 }],
};

function endOf(name: string): Init<Flow["source"]> {
  if (name === "") return { identity: 2, labels: ["reserved:world"] };
  const app = name.replace(/-\d+$/, "");
  return {
    identity: 1000 + app.length,
    namespace: "shop",
    pod_name: name,
    labels: [`k8s:app=${app}`, "k8s:io.kubernetes.pod.namespace=shop"],
    workloads: [{ name: app, kind: "Deployment" }],
  };
}

/** The same for the same name. */
function addressOf(name: string): string {
  if (name === "") return "192.0.2.1";
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.charCodeAt(0)) % 60_000;
  return `10.1.${sum >> 8}.${sum & 255}`;
}
