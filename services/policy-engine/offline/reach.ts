/**
 * What one end may open to another: ports that both sides' policies let through. Every port is judged, by way of the few
 * at which entries begin or end.
 * @module
 */
import { IDENTITY_HOST, type MapState, type Verdict } from "@weir/common";
import type { MapStateEntry } from "@weir/proto/policy";
import type { Direction } from "../policy.ts";
import type { End } from "./end.ts";
import type { OfflineCluster } from "./offline_cluster.ts";
import { joinRanges, PORT_MAX, type PortRange, PROTOCOLS } from "./port_range.ts";

/** One side's policy towards the other end; undefined: it has none. */
interface Side {
  readonly state: MapState;
  readonly remotes: readonly number[];
  readonly direction: Direction;
}

/** Ports that have one verdict. */
export interface Segment extends PortRange {
  readonly allowed: boolean;
  /** Some side has L7 rules: each request is judged. */
  readonly isJudged: boolean;
  /** What each side says; undefined where it has no policy. */
  readonly egress: Verdict | undefined;
  readonly ingress: Verdict | undefined;
}

/** All ports of all protocols in segments, in order. */
export function segmentsBetween(cluster: OfflineCluster, from: End, to: End): Segment[] {
  const egress = sideOf(cluster, from, to, "EGRESS"), ingress = sideOf(cluster, to, from, "INGRESS");
  const segments: Segment[] = [];
  for (const protocol of PROTOCOLS) {
    const starts = new Set([0]);
    for (const side of [egress, ingress]) addStarts(starts, side, protocol);
    const sorted = [...starts].sort((a, b) => a - b);
    for (const [at, first] of sorted.entries()) {
      const last = (sorted[at + 1] ?? PORT_MAX + 1) - 1;
      const out = verdictOf(egress, protocol, first), into = verdictOf(ingress, protocol, first);
      segments.push({
        protocol,
        first,
        last,
        allowed: (out?.allowed ?? true) && (into?.allowed ?? true),
        isJudged: isJudged(out) || isJudged(into),
        egress: out,
        ingress: into,
      });
    }
  }
  return segments;
}

/** The ports that are let through. */
export function reachBetween(cluster: OfflineCluster, from: End, to: End): PortRange[] {
  return joinRanges(
    segmentsBetween(cluster, from, to).filter(({ allowed }) => allowed)
      .map(({ protocol, first, last }) => ({ protocol, first, last })),
  );
}

function sideOf(cluster: OfflineCluster, subject: End, remote: End, direction: Direction): Side | undefined {
  // The host always reaches its own endpoints, as the datapath has it (lib/decide.h).
  if (direction === "INGRESS" && remote.number === IDENTITY_HOST) return undefined;
  const state = cluster.stateOf(subject);
  return state && { state, remotes: cluster.identitiesOf(remote), direction };
}

/** Ports at which the verdict of a side may become another one. */
function addStarts(starts: Set<number>, side: Side | undefined, protocol: number): void {
  if (side === undefined) return;
  for (const entry of entriesTowards(side)) {
    if (entry.protocol !== protocol || entry.portPrefixLength === 0) continue;
    starts.add(entry.port);
    const end = entry.port + (1 << (16 - entry.portPrefixLength));
    if (end <= PORT_MAX) starts.add(end);
  }
}

function* entriesTowards({ state, remotes, direction }: Side): Generator<MapStateEntry> {
  const index = indexOf(state, direction);
  for (const identity of new Set([0, ...remotes])) yield* index.entries.get(identity) ?? [];
}

/** The entries of one direction by remote identity. */
interface SideIndex {
  readonly entries: ReadonlyMap<number, readonly MapStateEntry[]>;
}

const INDEXES = new WeakMap<MapState, Map<Direction, SideIndex>>();

function indexOf(state: MapState, direction: Direction): SideIndex {
  let indexes = INDEXES.get(state);
  if (indexes === undefined) INDEXES.set(state, indexes = new Map());
  let index = indexes.get(direction);
  if (index !== undefined) return index;
  const entries = new Map<number, MapStateEntry[]>();
  for (const entry of state.entries) {
    if (entry.portName !== "" || entry.direction !== direction) continue;
    const list = entries.get(entry.identity);
    if (list) list.push(entry);
    else entries.set(entry.identity, [entry]);
  }
  indexes.set(direction, index = { entries });
  return index;
}

/** Ends that others' policies are asked about, by the identities that they have. */
export class RemoteEnds {
  readonly identities: readonly (readonly number[])[];
  /** Places in the list by identity. */
  readonly #places = new Map<number, number[]>();

  constructor(cluster: OfflineCluster, readonly ends: readonly End[]) {
    this.identities = ends.map((end) => cluster.identitiesOf(end));
    for (const [place, identities] of this.identities.entries()) {
      for (const identity of identities) {
        const places = this.#places.get(identity);
        if (places) places.push(place);
        else this.#places.set(identity, [place]);
      }
    }
  }

  placesOf(identity: number): readonly number[] {
    return this.#places.get(identity) ?? [];
  }
}

/** A number for each of the ends: those with the same one have the same verdicts of the subject's policy, for the same reasons. */
export function kindsTowards(
  cluster: OfflineCluster,
  subject: End,
  direction: Direction,
  remotes: RemoteEnds,
): Int32Array {
  const kinds = new Int32Array(remotes.ends.length).fill(-1), state = cluster.stateOf(subject);
  if (state === undefined) return kinds;
  const { entries } = indexOf(state, direction), isEnforced = state.enforced(direction);
  const { ingressDefaultCookie, egressDefaultCookie } = state.message;
  const head = `${isEnforced}/${direction === "INGRESS" ? ingressDefaultCookie : egressDefaultCookie}`;
  const numberOf = (identities: readonly number[]) =>
    cluster.numberOfText(
      [head, ...[0, ...identities].flatMap((id) => entries.get(id) ?? []).map(textOf)].join("/"),
    );
  kinds.fill(numberOf([]));
  for (const identity of entries.keys()) {
    for (const place of remotes.placesOf(identity)) {
      kinds[place] = numberOf(remotes.identities[place].filter((identity) => entries.has(identity)));
    }
  }
  for (const place of direction === "INGRESS" ? remotes.placesOf(IDENTITY_HOST) : []) kinds[place] = -1;
  return kinds;
}

function textOf(entry: MapStateEntry): string {
  const { identity, protocol, port, portPrefixLength, precedence, cookie, addresses } = entry;
  return `${identity === 0},${protocol},${port},${portPrefixLength},${precedence},${cookie},${addresses}`;
}

/** Of several identities that one end has, the entry of the highest precedence counts, as in the joined map state of its node. */
function verdictOf(side: Side | undefined, protocol: number, port: number): Verdict | undefined {
  if (side === undefined) return undefined;
  const { state, remotes, direction } = side;
  return remotes.map((remote) => state.lookup(remote, direction, protocol, port)).reduce((best, one) =>
    (one.entry?.precedence ?? -1) > (best.entry?.precedence ?? -1) ? one : best
  );
}

function isJudged(verdict: Verdict | undefined): boolean {
  return verdict !== undefined && verdict.allowed && verdict.ruleSets.length > 0 && verdict.plainCookie === 0;
}
