/** What is asked of the policy engine about the ends of a flow, and the commands that ask the same. Pure. @module */
import { IDENTITY_ALLOCATED_MIN, IDENTITY_LOCAL_MIN, ProblemError } from "@weir/common";
import type { Init } from "@weir/proto";
import type { ExplainRequest } from "@weir/proto/policy";
import type { Command, DropCause, FlowEnd, FlowRow } from "../api.ts";
import { protocolNumber } from "./policies.ts";

/** Drop reasons that policy is behind. */
const OF_POLICY: ReadonlySet<string> = new Set(["POLICY_DENIED", "POLICY_DENY", "AUTH_REQUIRED"]);

/** Why there is nothing to ask the policy engine about a drop; "" where there is. */
export function noPolicyReason({ reason, reasonText, example }: DropCause): string {
  if (!OF_POLICY.has(reason)) return `this is no matter of policy: ${reasonText}`;
  return example.protocol === "" ? "its packet has no protocol that is known" : "";
}

/** The request about a row. @throws {ProblemError} QUERY_INVALID: of a protocol without explanation */
export function requestOf({ source, destination, protocol, summary }: FlowRow): Init<ExplainRequest> {
  return {
    ...endOf("from", source),
    ...endOf("to", destination),
    protocol: protocolNumber(protocol),
    port: protocol.startsWith("ICMP") ? icmpType(summary) : destination.port,
  };
}

/** Where flows carry no type of ICMP, an echo request is asked about. */
function icmpType(summary: string): number {
  return /EchoReply/.test(summary) ? 0 : 8;
}

function endOf(name: "from" | "to", { identity, ip, labels }: FlowEnd): Init<ExplainRequest> {
  const isOwn = identity >= IDENTITY_ALLOCATED_MIN && identity < IDENTITY_LOCAL_MIN;
  if (!isOwn && ip !== "") return { [`${name}Ip`]: ip };
  if (identity !== 0) return { [`${name}Identity`]: identity };
  return { [`${name}Labels`]: [...labels] };
}

/**
 * The request of query parameters: `from` and `to` are identities, addresses, pods or ids of cards.
 * @param identityOf identity of a pod or card
 * @throws {ProblemError} QUERY_INVALID
 */
export function requestOfQuery(
  query: URLSearchParams,
  identityOf: (name: string) => number | undefined,
): Init<ExplainRequest> {
  const port = query.get("port") ?? "0";
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65_535) {
    throw new ProblemError("QUERY_INVALID", { detail: "Cannot take this port", expected: "0 to 65535" });
  }
  const direction = query.get("direction")?.toUpperCase();
  return {
    ...endOfText("from", query.get("from") ?? "", identityOf),
    ...endOfText("to", query.get("to") ?? "", identityOf),
    protocol: protocolNumber(query.get("protocol") ?? "TCP"),
    port: Number(port),
    ...(direction === "INGRESS" || direction === "EGRESS" ? { direction } : {}),
  };
}

function endOfText(
  name: "from" | "to",
  text: string,
  identityOf: (name: string) => number | undefined,
): Init<ExplainRequest> {
  if (/^\d{1,10}$/.test(text)) return { [`${name}Identity`]: Number(text) };
  if (/^[0-9a-fA-F.:]{2,45}$/.test(text)) return { [`${name}Ip`]: text };
  const identity = identityOf(text);
  if (identity !== undefined && identity !== 0) return { [`${name}Identity`]: identity };
  throw new ProblemError("QUERY_INVALID", {
    detail: `Cannot take ${name}=${text.slice(0, 80)}`,
    expected: "the number of an identity, an address, or a pod or card that the map knows",
  });
}

/** What to type to see the same. @param lab "" of the host's own Weir */
export function commandsOf({ example, reason }: DropCause, lab: string): Command[] {
  const { source, destination, protocol } = example;
  const own = lab === "" ? "" : ` --lab ${lab}`;
  const from = endFilter("from", source), to = endFilter("to", destination);
  const port = destination.port === 0 ? "" : ` --to-port ${destination.port}`;
  const filter = `${from} ${to}${port} --verdict DROPPED`;
  const commands: Command[] = [
    { title: "Follow these drops", text: `weir observe${own} ${filter} -f` },
    { title: "With the hubble command", text: `hubble observe ${filter} -f` },
  ];
  if (OF_POLICY.has(reason)) {
    const who = (end: FlowEnd) => quoted(end.pod === "" ? end.ip : `${end.namespace}/${end.pod}`);
    const at = destination.port === 0 ? protocol : `${destination.port}/${protocol}`;
    commands.unshift({
      title: "Ask why",
      text: `weir policy explain${own} --from ${who(source)} --to ${who(destination)} --port ${at}`,
    });
  }
  return commands;
}

function endFilter(side: "from" | "to", { namespace, pod, ip }: FlowEnd): string {
  return pod === "" ? `--${side}-ip ${quoted(ip)}` : `--${side}-pod ${quoted(`${namespace}/${pod}`)}`;
}

/** A word for a shell; names come from elsewhere. */
export function quoted(word: string): string {
  return /^[A-Za-z0-9_./:@%+=,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
