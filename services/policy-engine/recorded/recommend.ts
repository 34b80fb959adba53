/**
 * The least policy that allows what was recorded of some workloads: each rule says who, on which ports, and on what evidence. What passed
 * counts; what was denied does not. Both directions are closed but for that.
 *
 *     connections ─▶ by direction and peer: ports with evidence ─▶ peers with the same ports: one rule ─▶ YAML
 *
 * @module
 */
import { LABEL_CLUSTER, PROTOCOL_NUMBERS, type Selector, SOURCE_KUBERNETES } from "@weir/common";
import type { Direction } from "../policy.ts";
import type { EndBook, RecordedEnd } from "./recorded_end.ts";
import type { RecordedConnection } from "./recorder.ts";
import { peerOf, type RecommendedPeer, type WorkloadSelector, workloadSelector } from "./recommended_peer.ts";

/** What was seen of one peer on one port. */
export interface PortEvidence {
  readonly protocol: number;
  readonly port: number;
  connections: number;
  firstMs: number;
  lastMs: number;
  readonly example: string;
  readonly http: Map<string, number>;
  readonly dns: Map<string, number>;
  requestsCut: boolean;
}

/** A peer with what was seen of it. */
export interface PeerEvidence {
  readonly peer: RecommendedPeer;
  /** For people. */
  readonly name: string;
  /** Of workloads. */
  readonly selector: WorkloadSelector | undefined;
  /** Another cluster's; undefined: of this one. */
  readonly cluster: string | undefined;
  /** By protocol and port. */
  readonly ports: ReadonlyMap<string, PortEvidence>;
}

/** One rule: peers of one kind with the same ports. */
export interface RecommendedRule {
  readonly peers: readonly PeerEvidence[];
  readonly ports: readonly PortEvidence[];
}

/** The policy of the workloads of one namespace. */
export interface RecommendedPolicy {
  readonly namespace: string;
  /** Workloads that it selects, as the record knows them. */
  readonly workloads: readonly string[];
  readonly connections: number;
  readonly firstMs: number;
  readonly lastMs: number;
  readonly directions: Readonly<Record<Direction, readonly RecommendedRule[]>>;
  /** Names count: DNS rules have to go along. */
  readonly byName: boolean;
  /** What was seen and is in no rule, for people. */
  readonly leftOut: readonly string[];
}

/** Options of {@link recommend}. */
export interface RecommendOptions {
  readonly selector: Selector;
  /** Only workloads of this one. */
  readonly namespace?: string;
  /** Name of the cluster that the policies are for. */
  readonly cluster: string;
  /** Names may be used; false where the vocabulary has none. */
  readonly names: boolean;
  /** More addresses than these on one port become the world; Infinity: never. */
  readonly addressesMax?: number;
}

const ADDRESSES_MAX = 40, LEFT_OUT_MAX = 20;
const DNS_PORT = 53;

/** Policies by namespace; none where nothing of the record is meant. Pure. */
export function recommend(
  book: EndBook,
  connections: readonly RecordedConnection[],
  options: RecommendOptions,
): RecommendedPolicy[] {
  const { selector, namespace } = options;
  const isMeant = (end: RecordedEnd) =>
    end.kind === "pod" && selector.matches(end.labels) &&
    (namespace === undefined || end.namespace === namespace) &&
    (clusterOfEnd(end) ?? options.cluster) === options.cluster;
  const byNamespace = Map.groupBy(book.ends.filter(isMeant), (end) => end.namespace);
  return [...byNamespace].sort(([a], [b]) => a < b ? -1 : 1).map(([namespace, subjects]) =>
    policyOf(book, connections, { ...options, namespace, subjects: new Set(subjects) })
  );
}

interface Scope extends RecommendOptions {
  readonly namespace: string;
  readonly subjects: ReadonlySet<RecordedEnd>;
}

interface Seen {
  readonly peer: RecommendedPeer;
  readonly name: string;
  readonly ports: Map<string, PortEvidence>;
}

function policyOf(
  book: EndBook,
  connections: readonly RecordedConnection[],
  scope: Scope,
): RecommendedPolicy {
  const { subjects } = scope;
  const found: { direction: Direction; end: RecordedEnd; connection: RecordedConnection }[] = [];
  let total = 0, firstMs = Infinity, lastMs = -Infinity;
  for (const connection of connections) {
    if (connection.passed === 0) continue;
    const from = book.known(connection.from), to = book.known(connection.to);
    const isFrom = subjects.has(from), isTo = subjects.has(to);
    if (!isFrom && !isTo) continue;
    if (isFrom) found.push({ direction: "EGRESS", end: to, connection });
    if (isTo) found.push({ direction: "INGRESS", end: from, connection });
    total += connection.passed;
    firstMs = Math.min(firstMs, connection.firstMs);
    lastMs = Math.max(lastMs, connection.lastMs);
  }
  const byName = scope.names &&
    found.some(({ direction, connection }) => direction === "EGRESS" && isDns(connection));
  const leftOut = new Set<string>();
  const rulesOf = (direction: Direction) => {
    const seen = new Map<string, Seen>();
    for (const { end, connection } of found.filter((one) => one.direction === direction)) {
      const peer = peerOf(end, byName && direction === "EGRESS");
      if (peer === undefined) {
        if (leftOut.size < LEFT_OUT_MAX) {
          leftOut.add(`${end.name} ${direction === "EGRESS" ? "to" : "from"}: no policy has a word for it`);
        }
        continue;
      }
      addSeen(seen, peer, peer.type === "name" ? peer.name : end.name, connection);
    }
    foldAddresses(seen, scope.addressesMax ?? ADDRESSES_MAX);
    return joinRules(withSelectors(seen, book, scope));
  };
  const directions = { INGRESS: rulesOf("INGRESS"), EGRESS: rulesOf("EGRESS") };
  const workloads = [...new Set([...subjects].map(({ name }) => name))].sort();
  return {
    ...{ namespace: scope.namespace, workloads, connections: total, firstMs, lastMs, directions, byName },
    leftOut: [...leftOut],
  };
}

/** Whether it is a question to a DNS server. */
export function isDns({ protocol, port }: Pick<RecordedConnection, "protocol" | "port">): boolean {
  return port === DNS_PORT && (protocol === PROTOCOL_NUMBERS.UDP || protocol === PROTOCOL_NUMBERS.TCP);
}

function addSeen(
  seen: Map<string, Seen>,
  peer: RecommendedPeer,
  name: string,
  connection: RecordedConnection,
): void {
  let one = seen.get(peer.key);
  if (one === undefined) seen.set(peer.key, one = { peer, name, ports: new Map() });
  const { protocol, port, passed, firstMs, lastMs, example, http, dns, requestsCut } = connection;
  addEvidence(one.ports, {
    protocol,
    port,
    connections: passed,
    firstMs,
    lastMs,
    example,
    http,
    dns,
    requestsCut,
  });
}

function addEvidence(ports: Map<string, PortEvidence>, more: PortEvidence): void {
  const key = `${more.protocol}/${more.port}`, known = ports.get(key);
  if (known === undefined) {
    ports.set(key, { ...more, http: new Map(more.http), dns: new Map(more.dns) });
    return;
  }
  known.connections += more.connections;
  known.firstMs = Math.min(known.firstMs, more.firstMs);
  known.lastMs = Math.max(known.lastMs, more.lastMs);
  known.requestsCut ||= more.requestsCut;
  for (const [kinds, added] of [[known.http, more.http], [known.dns, more.dns]] as const) {
    for (const [what, count] of added) kinds.set(what, (kinds.get(what) ?? 0) + count);
  }
}

/** On a port that very many addresses have in common they are the world. */
function foldAddresses(seen: Map<string, Seen>, addressesMax: number): void {
  const counts = new Map<string, number>();
  for (const { peer, ports } of seen.values()) {
    if (peer.type === "address") {
      for (const key of ports.keys()) counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  }
  const many = new Set([...counts].filter(([, count]) => count > addressesMax).map(([key]) => key));
  if (many.size === 0) return;
  const world: RecommendedPeer = { type: "entity", key: "entity world", entity: "world" };
  const folded: Seen = { peer: world, name: "the world", ports: new Map() };
  for (const [key, { peer, ports }] of seen) {
    if (peer.type !== "address") continue;
    for (const [port, evidence] of ports) {
      if (!many.has(port)) continue;
      addEvidence(folded.ports, evidence);
      ports.delete(port);
    }
    if (ports.size === 0) seen.delete(key);
  }
  seen.set(world.key, folded);
}

/** Selectors of workloads mean nobody who was not seen on the same ports, as far as labels can say that. */
function withSelectors(seen: Map<string, Seen>, book: EndBook, { cluster }: Scope): PeerEvidence[] {
  const pods = Map.groupBy(book.ends.filter(({ kind }) => kind === "pod"), ({ namespace }) => namespace);
  return [...seen.values()].map(({ peer, name, ports }) => {
    if (peer.type !== "endpoints") return { peer, name, ports, selector: undefined, cluster: undefined };
    const { end } = peer, elsewhere = clusterOfEnd(end) ?? cluster;
    const others = (pods.get(end.namespace) ?? []).filter((other) => {
      if (other.labels.key === end.labels.key || (clusterOfEnd(other) ?? cluster) !== elsewhere) return false;
      const theirs = seen.get(peerOf(other, false)!.key)?.ports;
      return ![...ports.keys()].every((key) => theirs?.has(key));
    });
    const selector = workloadSelector(end, others);
    return { peer, name, ports, selector, cluster: elsewhere === cluster ? undefined : elsewhere };
  });
}

function clusterOfEnd({ labels }: RecordedEnd): string | undefined {
  return labels.get(SOURCE_KUBERNETES, LABEL_CLUSTER);
}

/** Peers of one kind that have the same ports are in one rule; workloads first. */
function joinRules(peers: readonly PeerEvidence[]): RecommendedRule[] {
  const order = ["endpoints", "entity", "name", "address"];
  const groups = Map.groupBy(
    peers,
    ({ peer, ports }) => `${order.indexOf(peer.type)} ${[...ports.keys()].sort().join()}`,
  );
  return [...groups].sort(([a], [b]) => a < b ? -1 : 1).map(([, peers]) => {
    const ports = new Map<string, PortEvidence>();
    for (const one of peers) for (const evidence of one.ports.values()) addEvidence(ports, evidence);
    return {
      peers: [...peers].sort((a, b) => a.peer.key < b.peer.key ? -1 : 1),
      ports: [...ports.values()].sort((a, b) => a.protocol - b.protocol || a.port - b.port),
    };
  });
}
