/**
 * Flows added up by who speaks to whom: one pair for two ends, a protocol and a port. All maps of the page are made of it.
 *
 * A connection is told of several times: by both nodes, with a verdict for each end, and once more where it is dropped. It counts
 * once, as the worst that became of it: dropped, else audited, else allowed. Every drop counts.
 *
 * Bounded: {@link TableLimits}. What there is no room for is counted in one pair from "other" to "other".
 * @module
 */
import type { Flow } from "@weir/proto/flow";
import { EVENT } from "@weir/proto/numbers";
import {
  applicationOf,
  type End,
  type EndNames,
  endOf,
  OTHER,
  portOf,
  protocolOf,
  secondsOf,
} from "./flow_end.ts";
import { Rate } from "./rate.ts";

/** Named maxima; each has a default. */
export interface TableLimits {
  readonly endsMax: number;
  readonly pairsMax: number;
  /** Connections whose next event is known to be of them. */
  readonly connectionsMax: number;
  readonly podsPerEndMax: number;
  readonly reasonsPerPairMax: number;
}

/** Defaults. A pair takes some 500 bytes, a connection 200. */
export const TABLE_LIMITS: TableLimits = {
  endsMax: 16_384,
  pairsMax: 65_536,
  connectionsMax: 65_536,
  podsPerEndMax: 256,
  reasonsPerPairMax: 8,
};

/** An end, and what is known of it. */
export interface KnownEnd {
  readonly number: number;
  end: End;
  readonly pods: Set<string>;
  lastSeenS: number;
}

/** Who speaks to whom. */
export interface Pair {
  readonly number: number;
  readonly from: KnownEnd;
  readonly to: KnownEnd;
  readonly protocol: string;
  readonly port: number;
  application: string;
  allowed: number;
  dropped: number;
  audited: number;
  trouble: number;
  readonly rate: Rate;
  readonly dropRate: Rate;
  readonly reasons: Map<string, number>;
  readonly firstSeenS: number;
  lastSeenS: number;
}

/** Counts of a pair that somebody else has added up. */
export interface PairSum {
  readonly from: End;
  readonly to: End;
  /** Names of pods that the ends stand for. */
  readonly fromPods?: readonly string[];
  readonly toPods?: readonly string[];
  readonly protocol: string;
  readonly port: number;
  readonly flows: number;
  readonly allowed: number;
  readonly dropped: number;
  readonly audited: number;
  readonly trouble: number;
  readonly reasons: ReadonlyMap<string, number>;
  readonly firstSeenS: number;
  readonly lastSeenS: number;
}

type Verdict = "allowed" | "audited" | "dropped";
interface Connection {
  pair: Pair;
  verdict: Verdict;
  atS: number;
}

/** An address and port are another connection when they come again after this time, in seconds. */
const AGAIN_S = 60;
/** Who was not heard of for this time is on no live map any more. */
export const FORGET_S = 900;

/** The table. */
export class FlowTable {
  /** Flows that were taken in. */
  seen = 0;
  /** Pairs that had no place of their own. */
  folded = 0;
  readonly pairs = new Map<string, Pair>();
  /** Pairs with news, for whoever makes maps; it empties the set. */
  readonly changed = new Set<Pair>();
  /** Pairs that are gone since the reader looked. */
  readonly gone = new Set<Pair>();
  readonly #ends = new Map<string, KnownEnd>();
  readonly #connections = new Map<string, Connection>();
  readonly #names: EndNames;
  readonly #limits: TableLimits;
  readonly #other: KnownEnd = { number: 0, end: OTHER, pods: new Set(), lastSeenS: 0 };
  #numbers = 0;

  constructor(names: EndNames, limits: Partial<TableLimits> = {}) {
    this.#names = names;
    this.#limits = { ...TABLE_LIMITS, ...limits };
  }

  /** Takes in one flow, as often as it comes. @returns the pair it belongs to; undefined for an answer of one */
  add(flow: Flow, nowS: number): Pair | undefined {
    this.seen++;
    const atS = secondsOf(flow, nowS);
    const protocol = protocolOf(flow), key = connectionKey(flow, protocol);
    if (flow.is_reply?.value === true) {
      this.#touch(flow, protocol, atS);
      return undefined;
    }
    const isDrop = flow.verdict === "DROPPED" && flow.event_type?.type !== EVENT.POLICY_VERDICT;
    let connection = this.#connections.get(key);
    if (connection !== undefined && atS - connection.atS > AGAIN_S) {
      this.#connections.delete(key);
      connection = undefined;
    }
    const pair = connection?.pair ?? this.#pairOf(flow, protocol, atS);
    if (flow.event_type?.type === EVENT.TROUBLE) pair.trouble++;
    else if (isDrop) this.#drop(pair, key, flow, { connection, atS });
    else this.#allow(pair, key, verdictOf(flow), { connection, atS });
    const application = applicationOf(flow);
    if (application !== "") pair.application = application;
    pair.lastSeenS = Math.max(pair.lastSeenS, atS);
    this.changed.add(pair);
    return pair;
  }

  /** Takes in counts as they are. */
  addSum(sum: PairSum): void {
    const { protocol, port, firstSeenS, lastSeenS } = sum;
    const from = this.#known(sum.from, lastSeenS, sum.fromPods);
    const to = this.#known(sum.to, lastSeenS, sum.toPods);
    const pair = this.#place(from, to, { protocol, port, atS: firstSeenS });
    this.seen += sum.flows;
    for (const what of ["allowed", "dropped", "audited", "trouble"] as const) pair[what] += sum[what];
    pair.lastSeenS = Math.max(pair.lastSeenS, lastSeenS);
    for (const [reason, count] of sum.reasons) this.#addReason(pair, reason, count);
  }

  /** All ends that are known. */
  ends(): Iterable<KnownEnd> {
    return this.#ends.values();
  }

  /** Forgets pairs and ends that were not heard of since `beforeS`, Unix seconds. */
  forget(beforeS: number): void {
    for (const [key, pair] of this.pairs) {
      if (pair.lastSeenS >= beforeS || pair.from === this.#other) continue;
      this.pairs.delete(key);
      this.changed.delete(pair);
      this.gone.add(pair);
    }
    for (const [key, { lastSeenS }] of this.#ends) if (lastSeenS < beforeS) this.#ends.delete(key);
    for (const [key, { atS, pair }] of this.#connections) {
      if (atS < beforeS || this.gone.has(pair)) this.#connections.delete(key);
    }
  }

  #drop(
    pair: Pair,
    key: string,
    flow: Flow,
    { connection, atS }: { connection: Connection | undefined; atS: number },
  ): void {
    if (connection !== undefined && connection.verdict !== "dropped") pair[connection.verdict]--;
    pair.dropped++;
    pair.dropRate.add(atS);
    if (connection?.verdict !== "allowed") pair.rate.add(atS);
    this.#addReason(pair, flow.drop_reason_desc, 1);
    this.#remember(key, { pair, verdict: "dropped", atS });
  }

  #addReason({ reasons }: Pair, reason: string, count: number): void {
    if (!reasons.has(reason) && reasons.size >= this.#limits.reasonsPerPairMax) return;
    reasons.set(reason, (reasons.get(reason) ?? 0) + count);
  }

  #allow(
    pair: Pair,
    key: string,
    verdict: Verdict | undefined,
    { connection, atS }: { connection: Connection | undefined; atS: number },
  ): void {
    // A denial is followed by the drop, which counts.
    if (verdict === undefined) return;
    if (connection === undefined) {
      pair[verdict]++;
      pair.rate.add(atS);
      this.#remember(key, { pair, verdict, atS });
    } else if (connection.verdict === "allowed" && verdict === "audited") {
      pair.allowed--;
      pair.audited++;
      connection.verdict = "audited";
    }
  }

  #remember(key: string, connection: Connection): void {
    this.#connections.delete(key);
    if (this.#connections.size >= this.#limits.connectionsMax) {
      this.#connections.delete(this.#connections.keys().next().value!);
    }
    this.#connections.set(key, connection);
  }

  /** An answer says that the other direction is alive. */
  #touch(flow: Flow, protocol: string, atS: number): void {
    const connection = this.#connections.get(connectionKey(flow, protocol, true));
    if (connection === undefined) return;
    connection.pair.lastSeenS = Math.max(connection.pair.lastSeenS, atS);
    const application = applicationOf(flow);
    if (application !== "") connection.pair.application = application;
    this.changed.add(connection.pair);
  }

  #pairOf(flow: Flow, protocol: string, atS: number): Pair {
    const from = this.#known(endOf(flow, "source", this.#names), atS);
    const to = this.#known(endOf(flow, "destination", this.#names), atS);
    const isIcmp = protocol.startsWith("ICMP"), port = isIcmp ? 0 : portOf(flow, "destination");
    return this.#place(from, to, { protocol, port, atS });
  }

  #place(
    from: KnownEnd,
    to: KnownEnd,
    { protocol, port, atS }: { protocol: string; port: number; atS: number },
  ): Pair {
    const isOther = from === this.#other && to === this.#other;
    const key = isOther ? "other" : `${from.number}>${to.number} ${protocol} ${port}`;
    const known = this.pairs.get(key);
    if (known !== undefined) return known;
    if (this.pairs.size >= this.#limits.pairsMax && !isOther) {
      this.folded++;
      return this.#place(this.#other, this.#other, { protocol: "", port: 0, atS });
    }
    const pair: Pair = {
      number: ++this.#numbers,
      from,
      to,
      protocol: isOther ? "" : protocol,
      port: isOther ? 0 : port,
      application: "",
      allowed: 0,
      dropped: 0,
      audited: 0,
      trouble: 0,
      rate: new Rate(),
      dropRate: new Rate(),
      reasons: new Map(),
      firstSeenS: atS,
      lastSeenS: atS,
    };
    this.pairs.set(key, pair);
    return pair;
  }

  #known(end: End, atS: number, podNames: readonly string[] = end.pod === "" ? [] : [end.pod]): KnownEnd {
    let known = this.#ends.get(end.key);
    if (known === undefined) {
      if (this.#ends.size >= this.#limits.endsMax) return this.#other;
      this.#ends.set(end.key, known = { number: ++this.#numbers, end, pods: new Set(), lastSeenS: atS });
    }
    known.end = end;
    known.lastSeenS = Math.max(known.lastSeenS, atS);
    for (const pod of podNames) if (known.pods.size < this.#limits.podsPerEndMax) known.pods.add(pod);
    return known;
  }
}

function verdictOf(flow: Flow): Verdict | undefined {
  if (flow.verdict === "DROPPED" || flow.verdict === "ERROR") return undefined;
  return flow.verdict === "AUDIT" ? "audited" : "allowed";
}

function connectionKey(flow: Flow, protocol: string, turned = false): string {
  const { source = "", destination = "" } = flow.IP ?? {};
  const a = `${source} ${portOf(flow, "source")}`, b = `${destination} ${portOf(flow, "destination")}`;
  return turned ? `${protocol} ${b}>${a}` : `${protocol} ${a}>${b}`;
}
