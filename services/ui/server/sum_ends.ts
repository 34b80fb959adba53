/**
 * Who the ends of stored sums are. A sum calls an end by its workload's text ("shop/Deployment/cart", "shop/cart-1" of a pod without
 * one, a DNS name, "world") and its identity; what it does not hold (labels) the identities say that held then.
 * @module
 */
import { IDENTITY_LOCAL_MIN, LABEL_NAMESPACE, reservedIdentityName, workloadOf } from "@weir/common";
import {
  cidrOf,
  type End,
  isWorkload,
  nameOfLabels,
  OTHER,
  plain,
  RESERVED,
  valueOfLabel,
} from "./flow_end.ts";

/** What a sum calls an end that had no room of its own. */
const OTHER_TEXT = "other";

/** Identity of a node's host. */
export const HOST = 1;

/** Labels by identity. */
export type IdentityLabels = ReadonlyMap<number, readonly string[]>;

/** The end of a sum. Pure. @param node Where it runs, or which it is; "" unknown */
export function endOfSum(text: string, identity: number, labels: IdentityLabels, node = ""): End {
  if (text === OTHER_TEXT) return OTHER;
  const own = labels.get(identity) ?? [], parts = text.split("/");
  // A DNS name has no slash, and nothing else than a workload has one.
  if (parts.length > 1 || isWorkload(identity)) return workloadEnd(parts, identity, own, node);
  const reserved = reservedIdentityName(identity) ?? "", kind = RESERVED[reserved];
  const isNamed = text !== reserved && !text.startsWith("world") && text !== `identity ${identity}`;
  if (kind === "host" || kind === "remote-node") {
    return plain(node === "" ? kind : "node", identity, { node, name: node, labels: own });
  }
  if (kind === "world" || identity >= IDENTITY_LOCAL_MIN) {
    if (isNamed) return plain("dns", identity, { name: text });
    const cidr = cidrOf(own);
    return cidr === "" || cidr.endsWith("/0")
      ? plain("world", identity)
      : plain("cidr", identity, { name: cidr });
  }
  return kind === undefined
    ? plain("unknown", identity, { name: reserved })
    : plain(kind, identity, { labels: own });
}

function workloadEnd(
  parts: readonly string[],
  identity: number,
  labels: readonly string[],
  node: string,
): End {
  const [namespace, ...rest] = parts.length > 1
    ? parts
    : [valueOfLabel(labels, `k8s:${LABEL_NAMESPACE}`) ?? ""];
  const pod = rest.length === 1 ? rest[0] : "";
  const [kind, name] = rest.length >= 2 ? [rest[0], rest.slice(1).join("/")] : [undefined, undefined];
  const found = name !== undefined
    ? { kind: kind!, name }
    : workloadOf(pod) ?? nameOfLabels(labels, identity);
  return {
    key: `w ${namespace}/${found.kind}/${found.name} ${identity} ${node}`,
    kind: "workload",
    namespace,
    workload: found.name,
    workloadKind: found.kind,
    pod,
    identity,
    labels: [...labels].sort(),
    node,
    name: "",
  };
}

/** Which pair a sum of drops belongs to. Pure. */
export function pairText(from: End, to: End, protocol: string, port: number): string {
  const text = (end: End) =>
    end === OTHER
      ? "other"
      : end.identity === HOST
      ? "host"
      : isWorkload(end.identity) || end.kind === "workload"
      ? `${end.namespace}/${end.workloadKind}/${end.workload}`
      : `${end.kind} ${end.name}`;
  return `${text(from)}>${text(to)} ${protocol} ${port}`;
}
