/**
 * Explain as it is asked over HTTP: labels, identities or addresses in, steps out.
 * @module
 */
import {
  AddressError,
  IDENTITY_WORLD_IPV4,
  IDENTITY_WORLD_IPV6,
  identityOfMany,
  invalidArgument,
  IpAddress,
  LabelError,
  LabelSet,
  parseLabel,
  Prefix,
} from "@weir/common";
import type { NamedPort } from "@weir/proto/identity";
import type { ExplainRequest, ExplainResponse } from "@weir/proto/policy";
import { canonicalName, compileName, RuleFault } from "@weir/l7-rules";
import { requestOf } from "./asked_request.ts";
import { explainDirection } from "./explain.ts";
import { fqdnMatcher, parseFqdnName } from "./fqdn_selector.ts";
import { withImpliedLabels } from "./implied_labels.ts";
import { IDENTITY_ASKED_REMOTE, IDENTITY_ASKED_SUBJECT } from "./pair_state.ts";
import { type Direction, meansWorld, type PeerIdentity, peerIdentity } from "./policy.ts";
import type { PolicyRepository } from "./policy_repository.ts";

/** What the directory knows of an address of the cluster. */
export interface AddressFacts {
  readonly identity: number;
  readonly namedPorts: readonly NamedPort[];
}

/** Surroundings of a request. */
export interface ExplainContext {
  readonly repository: PolicyRepository;
  readonly cluster: string;
  readonly lookup: (address: IpAddress) => AddressFacts | undefined;
  /** Addresses of the cluster's own endpoints and nodes with this identity. */
  readonly prefixesOf: (identity: number) => readonly Prefix[];
}

/** @throws {ProblemError} INVALID_ARGUMENT, with the field */
export function explainRequest(request: ExplainRequest, context: ExplainContext): ExplainResponse {
  const from = endOf("from", request.fromLabels, request.fromIdentity, request.fromIp, context);
  const to = request.toName === ""
    ? endOf("to", request.toLabels, request.toIdentity, request.toIp, context)
    : ofName(request, context);
  const toNamedPorts = request.toNamedPorts.length > 0 ? request.toNamedPorts : to.namedPorts;
  const protocol = request.protocol;
  if (protocol === 0) {
    throw invalidArgument("Cannot explain: protocol is missing", { expected: "a number, e.g. 6" });
  }
  const port = request.portName === ""
    ? request.port
    : namedPort(request, to.identity, toNamedPorts, context);
  const toAddress = to.address ??
    (toNamedPorts.length === 0
      ? undefined
      : context.repository.namedPorts.endpointLike(to.identity.number, toNamedPorts));
  const query = {
    from: from.identity,
    to: to.identity,
    protocol,
    port,
    toNamedPorts,
    toAddress,
    fromEnforcement: request.fromEnforcement,
    toEnforcement: request.toEnforcement,
    request: request.request && requestOf(request.request),
  };
  const directions: Direction[] = request.direction === "DIRECTION_UNSPECIFIED"
    ? ["EGRESS", "INGRESS"]
    : [request.direction];
  const steps = directions.map((direction) =>
    explainDirection(context.repository, query, direction, context.prefixesOf)
  );
  return {
    allowed: steps.every((step) => step.allowed),
    steps,
    policyRevision: context.repository.policyRevision,
  };
}

function endOf(
  name: "from" | "to",
  labels: readonly string[],
  number: number,
  ip: string,
  context: ExplainContext,
): { identity: PeerIdentity; namedPorts: readonly NamedPort[]; address?: string } {
  const given = [labels.length > 0, number !== 0, ip !== ""].filter(Boolean).length;
  if (given !== 1) {
    throw invalidArgument(
      `Cannot explain: ${given} of ${name}_labels, ${name}_identity and ${name}_ip are given`,
      {
        found: given,
        expected: "exactly one",
      },
    );
  }
  if (ip !== "") return ofAddress(name, ip, context);
  if (number !== 0) {
    const identity = context.repository.identity(number);
    if (!identity) {
      throw invalidArgument(`Cannot explain: ${name}_identity ${number} is not known`, { found: number });
    }
    return { identity, namedPorts: [] };
  }
  return { identity: ofLabels(name, labels, context), namedPorts: [] };
}

function ofLabels(
  name: "from" | "to",
  texts: readonly string[],
  { repository, cluster }: ExplainContext,
): PeerIdentity {
  const number = name === "from" ? IDENTITY_ASKED_SUBJECT : IDENTITY_ASKED_REMOTE;
  try {
    const labels = LabelSet.from(texts.map((text) => parseLabel(text, { defaultSource: "k8s" })));
    const own = LabelSet.from(withImpliedLabels(256, labels, cluster));
    for (const identity of repository.identities()) if (identity.labels.equals(own)) return identity;
    return peerIdentity(number, own);
  } catch (error) {
    if (!(error instanceof LabelError)) throw error;
    throw invalidArgument(`Cannot explain: ${name}_labels: ${error.message}`, { found: error.subject });
  }
}

/** The identity that the datapath gives an address: many's, the cluster's own, else that of the longest prefix, else the world. */
function ofAddress(
  name: "from" | "to",
  text: string,
  { repository, lookup }: ExplainContext,
): { identity: PeerIdentity; namedPorts: readonly NamedPort[]; address: string } {
  let address: IpAddress;
  try {
    address = IpAddress.parse(text);
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
    throw invalidArgument(`Cannot explain: ${name}_ip: ${error.message}`, { found: text });
  }
  const prefix = Prefix.host(address).text;
  const many = identityOfMany(address);
  if (many !== undefined) return { identity: repository.identity(many)!, namedPorts: [], address: prefix };
  const own = lookup(address);
  const known = own && repository.identity(own.identity);
  if (known) return { identity: known, namedPorts: own.namedPorts, address: prefix };
  let best: { length: number; identity: number } | undefined;
  for (const pair of repository.cidrPairs()) {
    const wider = Prefix.parse(pair.prefix);
    if (wider.contains(address) && (!best || wider.length > best.length)) {
      best = { length: wider.length, identity: pair.identity };
    }
  }
  const number = best?.identity ?? (address.family === 4 ? IDENTITY_WORLD_IPV4 : IDENTITY_WORLD_IPV6);
  return { identity: repository.identity(number)!, namedPorts: [], address: prefix };
}

/** An address that has a name: what is said of the address, and of the selectors that mean the name. */
function ofName(
  { toName, toLabels, toIdentity, toIp }: ExplainRequest,
  context: ExplainContext,
): ReturnType<typeof ofAddress> | {
  identity: PeerIdentity;
  namedPorts: readonly NamedPort[];
  address?: undefined;
} {
  const { repository } = context;
  if (toLabels.length > 0 || toIdentity !== 0) {
    throw invalidArgument("Cannot explain: to_name is given with to_labels or to_identity", {
      found: toName,
      expected: "to_name alone, or with to_ip",
    });
  }
  try {
    compileName(toName);
  } catch (error) {
    if (!(error instanceof RuleFault)) throw error;
    throw invalidArgument(`Cannot explain: to_name: ${error.message}`, { found: toName });
  }
  const base = toIp === ""
    ? { identity: repository.identity(IDENTITY_WORLD_IPV4)!, namedPorts: [] }
    : ofAddress("to", toIp, context);
  // Who is of the cluster keeps its identity, whatever name its address has.
  if (!meansWorld(base.identity)) return base;
  const names = new Set<string>();
  for (const { prefix: text } of repository.mentionedPairs()) {
    const selector = parseFqdnName(text);
    if (selector && fqdnMatcher(selector)(toName)) names.add(text);
  }
  const { labels, prefixes } = base.identity;
  const askedName = canonicalName(toName);
  return { ...base, identity: { number: IDENTITY_ASKED_REMOTE, labels, prefixes, names, askedName } };
}

function namedPort(
  request: ExplainRequest,
  to: PeerIdentity,
  named: readonly NamedPort[],
  { repository }: ExplainContext,
): number {
  const name = request.portName.toLowerCase();
  const numbers = { 6: "TCP", 17: "UDP", 132: "SCTP" } as Record<number, string>;
  const own = named.find((port) =>
    port.name.toLowerCase() === name && (port.protocol || "TCP").toUpperCase() === numbers[request.protocol]
  );
  const port = own?.port ?? repository.namedPorts.portsOf(to.number, request.protocol, name)[0];
  if (port === undefined) {
    throw invalidArgument(`Cannot explain: the destination has no port named ${request.portName}`, {
      found: named.map((port) => port.name).join(", ") || "no named port",
      expected: request.portName,
    });
  }
  return port;
}
