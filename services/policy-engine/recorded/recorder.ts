/**
 * Flows into connections: who asked whom, on which port, how often, and whether policy let it pass. Answers are turned round, so that a
 * connection of which only answers were recorded is known too, and no answer is taken for a connection of its own. What of a connection was
 * seen at both of its ends, or at several points, is one connection.
 * @module
 */
import { connectionHash, SeenSet } from "./seen_set.ts";
import { EndBook, type EndFacts, type RecordedEnd } from "./recorded_end.ts";

/** What is left out, and why. */
export const LEFT_OUT = {
  "answers": "answers to what is no connection",
  "related": "errors about other packets",
  "sockets": "translations at sockets, before any packet",
  "untranslated": "packets to a service's address, before a backend was chosen",
  "direction": "packets of which is not known who asked",
  "dropped": "dropped for other reasons than policy",
  "errors": "errors of a proxy",
  "protocols": "protocols that no policy knows",
  "ends": "an end is not known (no labels, no address)",
  "room": "more ends or kinds of connections than are told apart",
  "times": "without a time, so that nobody knows whether they are of the window",
  "window": "outside of the window",
} as const;
export type LeftOut = keyof typeof LEFT_OUT;

/** One flow, whatever it was read from. */
export interface FlowFacts {
  /** Unix milliseconds; undefined: it has none. */
  readonly ms: number | undefined;
  readonly node: string;
  readonly type: "L3_L4" | "L7" | "SOCK";
  readonly verdict: "passed" | "denied" | "dropped" | "error" | "other";
  readonly source: EndFacts;
  readonly destination: EndFacts;
  readonly sourceIp: string;
  readonly destinationIp: string;
  /** IP protocol; 0: another one. */
  readonly protocol: number;
  readonly sourcePort: number;
  /** Of ICMP the type. */
  readonly destinationPort: number;
  /** undefined: not known. */
  readonly isReply: boolean | undefined;
  readonly isRelated: boolean;
  readonly direction: "INGRESS" | "EGRESS" | "";
  /** To the address of a service. */
  readonly toService: boolean;
  readonly sourceNames: readonly string[];
  readonly destinationNames: readonly string[];
  /** `GET /path`, of requests. */
  readonly http?: string;
  /** Name that DNS was asked for. */
  readonly dns?: string;
}

/** Connections of one kind: from one end to another, on one port. */
export interface RecordedConnection {
  readonly from: RecordedEnd;
  readonly to: RecordedEnd;
  readonly protocol: number;
  readonly port: number;
  /** Connections that policy let pass, and that it denied. */
  passed: number;
  denied: number;
  /** Whose policy denied some, as far as flows say: the source's, the destination's. */
  readonly deniedAt: Set<"EGRESS" | "INGRESS">;
  /** Unix milliseconds; Infinity and -Infinity where no flow had a time. */
  firstMs: number;
  lastMs: number;
  /** One of them: `10.0.1.2:40000 -> 10.0.3.4:8080`. */
  readonly example: string;
  /** Some were seen by their answers alone. */
  byAnswers: number;
  /** Requests by what was asked, how often each; more than {@link REQUESTS_MAX} kinds are not told apart. */
  readonly http: Map<string, number>;
  readonly dns: Map<string, number>;
  /** There were more. */
  requestsCut: boolean;
}

/** Kinds of connections, and of requests of one kind. */
export const CONNECTIONS_MAX = 500_000;
export const REQUESTS_MAX = 200;

const TCP = 6, ICMP = 1, ICMPV6 = 58;
const KNOWN_PROTOCOLS: ReadonlySet<number> = new Set([ICMP, TCP, 17, ICMPV6, 132]);
/** Numbers of two ends as one: there are fewer ends than this. */
const PAIR = 2 ** 26;
/** A flow this far ahead was recorded by a clock that is wrong. */
const AHEAD_MS_MAX = 60_000;

/** Options of {@link FlowRecorder}. */
export interface FlowRecorderOptions {
  /** Unix milliseconds; flows from before and after are left out. */
  readonly sinceMs?: number;
  readonly untilMs?: number;
  /** What time it is, to tell clocks that are ahead. */
  readonly nowMs?: number;
  /** Most ends that are told apart. */
  readonly endsMax?: number;
}

/** Takes flows, has connections. */
export class FlowRecorder {
  readonly book: EndBook;
  readonly leftOut = new Map<LeftOut, number>();
  /** Nodes that saw something, and the newest time that each of them said. */
  readonly nodes = new Map<string, number>();
  readonly #pairs = new Map<number, Map<number, RecordedConnection>>();
  readonly #all: RecordedConnection[] = [];
  readonly #seen = new SeenSet();
  readonly #options: FlowRecorderOptions;
  flows = 0;
  /** Flows from a time that has not come yet. */
  ahead = 0;
  firstMs = Infinity;
  lastMs = -Infinity;

  constructor(options: FlowRecorderOptions = {}) {
    this.#options = options;
    this.book = new EndBook(options.endsMax);
  }

  /** In the order in which they were first seen. */
  get connections(): readonly RecordedConnection[] {
    return this.#all;
  }

  /** Takes a flow. */
  add(flow: FlowFacts): void {
    this.flows++;
    const reason = this.#take(flow);
    if (reason !== undefined) this.leaveOut(reason);
  }

  leaveOut(reason: LeftOut, count = 1): void {
    this.leftOut.set(reason, (this.leftOut.get(reason) ?? 0) + count);
  }

  #take(flow: FlowFacts): LeftOut | undefined {
    const { ms, node } = flow, { sinceMs = -Infinity, untilMs = Infinity, nowMs = Infinity } = this.#options;
    if (ms === undefined) {
      if (sinceMs !== -Infinity || untilMs !== Infinity) return "times";
    } else {
      this.firstMs = Math.min(this.firstMs, ms);
      this.lastMs = Math.max(this.lastMs, ms);
      if (ms > nowMs + AHEAD_MS_MAX) this.ahead++;
      if (node !== "" && (this.nodes.has(node) || this.nodes.size < 10_000)) {
        this.nodes.set(node, Math.max(this.nodes.get(node) ?? -Infinity, ms));
      }
      if (ms < sinceMs || ms > untilMs) return "window";
    }
    if (flow.type === "SOCK") return "sockets";
    if (flow.verdict === "error" || flow.verdict === "other") return "errors";
    if (flow.verdict === "dropped") return "dropped";
    if (flow.isRelated) return "related";
    if (!KNOWN_PROTOCOLS.has(flow.protocol)) return "protocols";
    // Policy drops what opens a connection, never an answer.
    const isReply = flow.verdict === "denied" ? false : flow.isReply;
    if (isReply === undefined) return "direction";
    const isIcmp = flow.protocol === ICMP || flow.protocol === ICMPV6;
    let port = flow.destinationPort, clientPort = flow.sourcePort;
    if (isReply) {
      const asked = isIcmp ? requestOf(flow.protocol, port) : flow.sourcePort;
      if (asked === undefined) return "answers";
      [port, clientPort] = [asked, flow.destinationPort];
    }
    if (isIcmp) clientPort = 0;
    if (flow.toService && !isReply && isOutside(flow.destination)) return "untranslated";
    const from = this.#endOf(flow, isReply), to = this.#endOf(flow, !isReply);
    if (from === undefined || to === undefined) return "room";
    const isUnknown = (end: RecordedEnd) => end.kind === "unknown" && end.identity === 0;
    if (isUnknown(from) || isUnknown(to)) return "ends";
    this.#noteEnds(flow, isReply, from, to);
    const connection = this.#connection(flow, isReply, { from, to, port, clientPort });
    if (connection === undefined) return "room";
    this.#count(connection, flow, isReply, clientPort);
    return undefined;
  }

  #endOf(flow: FlowFacts, isDestination: boolean): RecordedEnd | undefined {
    return isDestination
      ? this.book.endOf(flow.destination, flow.destinationIp)
      : this.book.endOf(flow.source, flow.sourceIp);
  }

  #noteEnds(flow: FlowFacts, isReply: boolean, from: RecordedEnd, to: RecordedEnd): void {
    const { direction, node, destinationNames, sourceNames } = flow;
    if (to.kind === "address") {
      for (const name of isReply ? sourceNames : destinationNames) this.book.addName(to, name);
    }
    if (node === "" || direction === "") return;
    // The direction is that of the connection, at the endpoint of this node: an answer of an endpoint is of ingress.
    const local = direction === "EGRESS" ? from : to;
    if (local.kind === "pod") this.book.addNode(local, node);
  }

  #connection(
    flow: FlowFacts,
    isReply: boolean,
    { from, to, port, clientPort }: { from: RecordedEnd; to: RecordedEnd; port: number; clientPort: number },
  ): RecordedConnection | undefined {
    const pair = from.index * PAIR + to.index, key = flow.protocol * 65_536 + port;
    let ports = this.#pairs.get(pair);
    if (ports === undefined) this.#pairs.set(pair, ports = new Map());
    let connection = ports.get(key);
    if (connection !== undefined || this.#all.length >= CONNECTIONS_MAX) return connection;
    const [source, destination] = isReply
      ? [flow.destinationIp, flow.sourceIp]
      : [flow.sourceIp, flow.destinationIp];
    const isIcmp = flow.protocol === ICMP || flow.protocol === ICMPV6;
    const ip = (address: string, number: number) =>
      isIcmp ? address : address.includes(":") ? `[${address}]:${number}` : `${address}:${number}`;
    connection = {
      ...{ from, to, protocol: flow.protocol, port, passed: 0, denied: 0 },
      ...{ firstMs: Infinity, lastMs: -Infinity, byAnswers: 0, requestsCut: false },
      deniedAt: new Set(),
      example: `${ip(source, clientPort)} -> ${ip(destination, port)}`,
      http: new Map(),
      dns: new Map(),
    };
    ports.set(key, connection);
    this.#all.push(connection);
    return connection;
  }

  #count(connection: RecordedConnection, flow: FlowFacts, isReply: boolean, clientPort: number): void {
    const { ms, http, dns } = flow, isDenied = flow.verdict === "denied";
    const [source, destination] = isReply
      ? [flow.destinationIp, flow.sourceIp]
      : [flow.sourceIp, flow.destinationIp];
    const ports = connection.port * 65_536 + clientPort | 0;
    // An address may have been another pod's before.
    const kind = Math.imul(connection.from.index, 0x9e37_79b1) ^ Math.imul(connection.to.index, 0x85eb_ca77) ^
      (flow.protocol << 1 | Number(isDenied)) << 20;
    if (this.#seen.add(connectionHash(source, destination, ports, kind))) {
      if (isDenied) connection.denied++;
      else connection.passed++;
      if (isReply) connection.byAnswers++;
    }
    if (isDenied && flow.direction !== "") connection.deniedAt.add(flow.direction);
    if (ms !== undefined) {
      if (ms < connection.firstMs) connection.firstMs = ms;
      if (ms > connection.lastMs) connection.lastMs = ms;
    }
    for (const [kinds, what] of [[connection.http, http], [connection.dns, dns]] as const) {
      if (what === undefined) continue;
      if (kinds.has(what) || kinds.size < REQUESTS_MAX) kinds.set(what, (kinds.get(what) ?? 0) + 1);
      else connection.requestsCut = true;
    }
  }
}

function isOutside({ kind, identity }: EndFacts): boolean {
  return kind === "address" || kind === "unknown" && identity === 0;
}

/** The type of ICMP that asks for what this one answers. */
function requestOf(protocol: number, type: number): number | undefined {
  if (protocol === ICMP && type === 0) return 8;
  return protocol === ICMPV6 && type === 129 ? 128 : undefined;
}
