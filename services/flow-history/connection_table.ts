/**
 * Connections made out of flows: who asked whom, since when, what policy said, how it ended. All flows go in, also those that are not
 * kept one by one. A connection that has ended, or of which nothing is heard any more, is handed out and forgotten here.
 *
 *     flow ─▶ its addresses and ports, either way round ─▶ connection ── ended, silent, or too many ──▶ takeEnded()
 *
 * @module
 */
import type { Flow, Verdict } from "@weir/proto/flow";
import { Connection, type ConnectionState } from "@weir/proto/history";
import { EVENT } from "@weir/proto/numbers";
import { isDrop, isTrouble, policiesOf, type Transport } from "./flow_facts.ts";

/** Connections that are followed at once; beyond it the one that was silent longest ends. */
export const OPEN_CONNECTIONS_MAX = 32_768;
const POLICIES_MAX = 16;
const NODES_MAX = 8;
const NAMES_MAX = 8;

/** How long nothing may be heard of a connection before it is over, in milliseconds. */
export const QUIET_MS = {
  /** Ended by both, or reset: what comes late still belongs to it. */
  ended: 3000,
  /** The same of one whose nodes count what it carries, and have not yet said how much that was in the end. */
  uncounted: 15_000,
  /** Dropped, without an answer: a SYN is sent again after 1, 3, 7, 15 s. */
  denied: 30_000,
  unanswered: 60_000,
  /** Protocols without an end. */
  datagrams: 60_000,
  halfClosed: 60_000,
  /** TCP that says nothing is open still: conntrack keeps it as long. */
  open: 21_600_000,
} as const;

/** From the best to the worst; the others are not worse than any. */
const WORST: readonly Verdict[] = ["FORWARDED", "REDIRECTED", "AUDIT", "ERROR", "DROPPED"];

/** One connection that goes on. */
interface Open {
  readonly key: string;
  readonly value: Connection;
  readonly sourceEnd: number;
  readonly destinationEnd: number;
  /** Monotonic. */
  heardMs: number;
  fin: [boolean, boolean];
  isReset: boolean;
  /** Forwarded at least once. */
  isAllowed: boolean;
  /** Whose count it has: of the node where it begins, else of the one where it ends. */
  countedAt?: "source" | "destination";
  /** When that count was taken. */
  countedUnixMs?: number;
  /** What it carried is known to the end. */
  isCounted?: boolean;
}

/** A connection that goes on. */
export interface OpenConnection {
  /** Its state is not told yet. */
  readonly value: Connection;
  /** As it is now. */
  readonly snapshot: () => Connection;
}

/** A connection that has ended, with the numbers of its ends. */
export interface EndedConnection {
  readonly connection: Connection;
  readonly sourceEnd: number;
  readonly destinationEnd: number;
}

/** What a flow is to its connection. */
export interface FlowPlace {
  /** It goes from who was asked to who asked. */
  readonly isReply: boolean;
  /** It is the first of its connection. */
  readonly isNew: boolean;
  /** It is the first drop of its connection. */
  readonly isDenial: boolean;
}

/** Connections that go on. */
export class ConnectionTable {
  readonly #open = new Map<string, Open>();
  #ended: Open[] = [];
  /** Nodes say what connections carry. */
  #areCounted = false;
  /** Connections that had to make room. */
  evicted = 0;

  /** Takes a flow. `unixMs` as it is ordered, `nowMs` monotonic; the numbers of its ends. */
  add(
    flow: Flow,
    { transport, unixMs, nowMs, source, destination }: {
      transport: Transport;
      unixMs: number;
      nowMs: number;
      source: number;
      destination: number;
    },
  ): FlowPlace {
    const isReply = flow.is_reply?.value;
    if (flow.IP === undefined || transport.protocol === "") {
      return { isReply: isReply ?? false, isNew: false, isDenial: false };
    }
    const forward = connectionKey(flow, transport), backward = backwardKey(flow, transport);
    let open = isReply === true ? this.#open.get(backward) : this.#open.get(forward);
    let turned = isReply === true;
    if (open === undefined && isReply === undefined) {
      open = this.#open.get(backward);
      turned = open !== undefined;
    }
    if (open !== undefined && beginsAnew(open, flow, turned)) {
      this.#end(open);
      open = undefined;
    }
    const isNew = open === undefined;
    if (open === undefined) {
      const value = connectionOf(flow, transport, unixMs, turned);
      open = {
        key: turned ? backward : forward,
        value,
        sourceEnd: turned ? destination : source,
        destinationEnd: turned ? source : destination,
        heardMs: nowMs,
        fin: [false, false],
        isReset: false,
        isAllowed: false,
      };
      if (this.#open.size >= OPEN_CONNECTIONS_MAX) this.#evict();
    } else this.#open.delete(open.key);
    this.#open.set(open.key, open); // the one that was heard last is the last
    open.heardMs = nowMs;
    note(open, flow, { unixMs, turned });
    return { isReply: turned, isNew, isDenial: isDrop(flow) && open.value.drops === 1 };
  }

  /** Takes what a node has counted of a connection that is known here. `unixMs` of the count, `nowMs` monotonic. */
  carried(
    flow: Flow,
    { transport, unixMs, nowMs }: { transport: Transport; unixMs: number; nowMs: number },
  ): void {
    const { traffic } = flow, open = this.#open.get(connectionKey(flow, transport));
    this.#areCounted ||= traffic !== undefined;
    if (traffic === undefined || open === undefined) return;
    if (open.countedAt === "source" && !traffic.at_source) return;
    const isSame = (open.countedAt === "source") === traffic.at_source;
    // After a break nodes repeat themselves.
    if (isSame && open.countedUnixMs !== undefined && unixMs < open.countedUnixMs) return;
    open.countedAt = traffic.at_source ? "source" : "destination";
    open.countedUnixMs = unixMs;
    open.isCounted = traffic.over;
    open.heardMs = nowMs;
    this.#open.delete(open.key);
    this.#open.set(open.key, open);
    Object.assign(open.value, {
      trafficKnown: true,
      packets: traffic.packets,
      bytes: traffic.bytes,
      replyPackets: traffic.reply_packets,
      replyBytes: traffic.reply_bytes,
    });
  }

  /** Those that are over. `nowMs`: monotonic. */
  takeEnded(nowMs: number): EndedConnection[] {
    for (const open of this.#open.values()) {
      const quietMs = nowMs - open.heardMs;
      if (quietMs < QUIET_MS.ended) break; // all that follow were heard later
      if (quietMs >= quietMsMax(open, this.#areCounted)) this.#end(open);
    }
    return this.#ended.splice(0).map(finished);
  }

  /** Those that go on, about in the order of their last flows; they change under the reader, and {@link OpenConnection.snapshot} does not. */
  *list(): Generator<OpenConnection> {
    for (const open of this.#open.values()) {
      yield { value: open.value, snapshot: () => ({ ...open.value, state: stateOf(open) }) };
    }
  }

  get size(): number {
    return this.#open.size;
  }

  /** Goes on with what was written down. Ends get their numbers anew. */
  restore(
    connections: readonly Connection[],
    nowMs: number,
    idOf: (endpoint: Connection["source"], unixMs: number) => number,
  ): void {
    for (const value of connections.slice(0, OPEN_CONNECTIONS_MAX)) {
      const key = [
        value.protocol,
        value.sourceIp,
        value.sourcePort,
        value.destinationIp,
        value.destinationPort,
      ].join("|");
      if (this.#open.has(key)) continue;
      this.#open.set(key, {
        key,
        value,
        sourceEnd: idOf(value.source, value.endUnixS * 1000),
        destinationEnd: idOf(value.destination, value.endUnixS * 1000),
        heardMs: nowMs,
        fin: [false, false],
        isReset: value.state === "RESET",
        isAllowed: value.verdict !== "DROPPED",
      });
    }
  }

  #evict(): void {
    const [oldest] = this.#open.values();
    this.evicted++;
    this.#end(oldest);
  }

  #end(open: Open): void {
    this.#open.delete(open.key);
    this.#ended.push(open);
  }
}

/** The five that make a connection, as the flow has them. */
export function connectionKey({ IP }: Flow, { protocol, sourcePort, destinationPort }: Transport): string {
  return `${protocol}|${IP?.source}|${sourcePort}|${IP?.destination}|${destinationPort}`;
}

/** The same of who answers. */
export function backwardKey({ IP }: Flow, { protocol, sourcePort, destinationPort }: Transport): string {
  return `${protocol}|${IP?.destination}|${destinationPort}|${IP?.source}|${sourcePort}`;
}

/** A first packet, of ports that an ended connection had. */
function beginsAnew(open: Open, flow: Flow, turned: boolean): boolean {
  const isOver = open.isReset || open.fin[0] || open.fin[1];
  return isOver && !turned && isFirst(flow);
}

const isFirst = (flow: Flow): boolean =>
  flow.event_type?.type === EVENT.POLICY_VERDICT || flow.trace_reason === "NEW" ||
  flow.event_type?.type === EVENT.DROP;

function connectionOf(flow: Flow, transport: Transport, unixMs: number, turned: boolean): Connection {
  const { source = undefined, destination = undefined, IP } = flow;
  const one = { end: source, ip: IP!.source, port: transport.sourcePort };
  const other = { end: destination, ip: IP!.destination, port: transport.destinationPort };
  const [from, to] = turned ? [other, one] : [one, other];
  return Connection.create({
    id: crypto.randomUUID(),
    startUnixS: unixMs / 1000,
    endUnixS: unixMs / 1000,
    startKnown: !turned && isFirst(flow),
    source: from.end,
    destination: to.end,
    sourceIp: from.ip,
    destinationIp: to.ip,
    sourcePort: from.port,
    destinationPort: to.port,
    protocol: transport.protocol,
  });
}

function note(open: Open, flow: Flow, { unixMs, turned }: { unixMs: number; turned: boolean }): void {
  const { value } = open, flags = flow.l4?.TCP?.flags;
  value.startUnixS = Math.min(value.startUnixS, unixMs / 1000);
  value.endUnixS = Math.max(value.endUnixS, unixMs / 1000);
  if (turned) value.replyFlows++;
  else value.flows++;
  if (!turned && isFirst(flow)) value.startKnown = true;
  if (flow.verdict === "FORWARDED" || flow.verdict === "REDIRECTED" || flow.verdict === "AUDIT") {
    open.isAllowed ||= !isTrouble(flow);
  }
  if (WORST.indexOf(flow.verdict) > WORST.indexOf(value.verdict)) value.verdict = flow.verdict;
  if (isDrop(flow)) value.drops++;
  if (flow.drop_reason_desc !== "DROP_REASON_UNKNOWN") value.dropReason = flow.drop_reason_desc;
  if (isTrouble(flow) && flow.trouble !== undefined) value.trouble = flow.trouble.kind;
  else if (flags !== undefined && flow.verdict !== "DROPPED") {
    if (flags.FIN) open.fin[turned ? 1 : 0] = true;
    if (flags.RST) open.isReset = true;
  }
  if (value.trouble === "refused") open.isReset = true;
  if (value.nodes.length < NODES_MAX && flow.node_name !== "" && !value.nodes.includes(flow.node_name)) {
    value.nodes.push(flow.node_name);
  }
  const names = turned ? flow.source_names : flow.destination_names;
  for (const name of names) {
    if (value.destinationNames.length < NAMES_MAX && !value.destinationNames.includes(name)) {
      value.destinationNames.push(name);
    }
  }
  value.destinationService ??= turned ? flow.source_service : flow.destination_service;
  for (const judged of policiesOf(flow)) {
    const isKnown = value.policies.some(({ direction, allowed, policy }) =>
      direction === judged.direction && allowed === judged.allowed && policy?.kind === judged.policy.kind &&
      policy.namespace === judged.policy.namespace && policy.name === judged.policy.name &&
      policy.line === judged.policy.line
    );
    if (!isKnown && value.policies.length < POLICIES_MAX) value.policies.push(judged);
  }
}

function stateOf(open: Open): ConnectionState {
  const { value, fin, isReset, isAllowed } = open;
  if (value.drops > 0 && !isAllowed) return "DENIED";
  if (value.verdict === "DROPPED" && value.replyFlows === 0) return "DENIED";
  if (isReset) return "RESET";
  if (fin[0] && fin[1]) return "CLOSED";
  if (value.trouble === "no-answer" && value.replyFlows === 0) return "NO_ANSWER";
  return "OPEN";
}

function quietMsMax(open: Open, areCounted: boolean): number {
  const { value, fin } = open, state = stateOf(open);
  if (state === "RESET" || state === "CLOSED") {
    return areCounted && !open.isCounted ? QUIET_MS.uncounted : QUIET_MS.ended;
  }
  if (state === "DENIED") return QUIET_MS.denied;
  if (value.protocol !== "TCP" && value.protocol !== "SCTP") return QUIET_MS.datagrams;
  if (value.replyFlows === 0) return QUIET_MS.unanswered;
  return fin[0] || fin[1] ? QUIET_MS.halfClosed : QUIET_MS.open;
}

function finished(open: Open): EndedConnection {
  const { value, fin, sourceEnd, destinationEnd } = open;
  let state = stateOf(open);
  if (state === "OPEN") {
    const isStream = value.protocol === "TCP" || value.protocol === "SCTP";
    if (fin[0] || fin[1]) state = "CLOSED";
    else if (isStream && value.replyFlows === 0 && value.startKnown) state = "NO_ANSWER";
    else state = "SILENT";
  }
  value.state = state;
  return { connection: value, sourceEnd, destinationEnd };
}
