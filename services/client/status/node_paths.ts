/**
 * What the probes between nodes mean: which pairs of nodes are badly connected, in which direction, what follows and what to do. Pure.
 *
 * @module
 */
import type { NodePath, Probes } from "@weir/proto/datapath";

/** The gravest first. */
const KINDS = ["dead", "blocked", "lossy", "small", "pieces"] as const;
/**
 * - dead: nothing gets through
 * - blocked: nodes reach each other, pods' packets do not get through
 * - lossy: a part is lost
 * - small: pods' large packets are lost
 * - pieces: pods' large packets travel in fragments of the tunnel
 */
export type PairKind = (typeof KINDS)[number];

/** Two nodes with a bad way between them. */
export interface PairTrouble {
  readonly kind: PairKind;
  /** Names in order. */
  readonly nodes: readonly [string, string];
  readonly sinceUnixS: number;
  /** For comparing troubles of one kind: larger is worse. */
  readonly weight: number;
  readonly message: string;
  readonly effect: string;
  readonly remedy: string;
}

/** One direction. */
interface Direction {
  readonly kind: PairKind;
  readonly from: string;
  readonly to: string;
  readonly family: string;
  readonly sinceUnixS: number;
  /** 0..1. */
  readonly loss: number;
  /** Bytes that arrive, and that are needed at the underlay. */
  readonly mtu: number;
  /** `mtu` is not the last word. */
  readonly searching: boolean;
  readonly underlayMtu: number;
  readonly underlayWanted: number;
}

/** Without a probe for so long a node is not heard: three rounds of one that may be in doubt, and a moment. */
const heardSMax = (intervalS: number) => 3 * intervalS + 3;
/** The underlay has answered so much later than the way of pods: it is that way alone. */
const LATER_S = 5;
/** A direction has its part in a loss from here on. */
const LOSS_PART = 0.05;

/**
 * Bad pairs, the worst first, each once.
 * @param probes of every node that answered, by name
 * @param isQuiet a node that is known to be down, or its datapath not to answer: its silence says nothing of the way
 */
export function pairTroubles(
  probes: ReadonlyMap<string, Probes>,
  isQuiet: (node: string) => boolean = () => false,
): PairTrouble[] {
  const pairs = new Map<string, Direction[]>();
  for (const [node, report] of probes) {
    const peers = Map.groupBy(report.paths, (path) => path.node);
    for (const [peer, paths] of peers) {
      if (isQuiet(peer) || isQuiet(node)) continue;
      const key = [node, peer].sort().join(" ");
      const found = directionsOf(node, peer, paths, report, probes.get(peer));
      pairs.set(key, [...(pairs.get(key) ?? []), ...found]);
    }
  }
  return [...pairs.values()].filter((directions) => directions.length > 0)
    .map((directions) => troubleOf(directions, probes))
    .sort((a, b) => rank(a.kind) - rank(b.kind) || b.weight - a.weight);
}

function rank(kind: PairKind): number {
  return KINDS.indexOf(kind);
}

function directionsOf(
  node: string,
  peer: string,
  paths: readonly NodePath[],
  report: Probes,
  far: Probes | undefined,
): Direction[] {
  const underlay = paths.filter(({ kind }) => kind === "UNDERLAY");
  const overhead = Math.max(0, ...underlay.map((path) => path.mtuWanted)) -
    Math.max(0, ...paths.filter(({ kind }) => kind === "POD").map((path) => path.mtuWanted));
  const out: Direction[] = [];
  for (const path of paths) {
    if (path.kind !== "POD") continue;
    const add = (kind: PairKind, from: string, to: string, loss: number, sinceUnixS: number) =>
      out.push({
        kind,
        from,
        to,
        family: path.family,
        sinceUnixS,
        loss,
        mtu: path.mtu ?? 0,
        searching: path.mtuSearching,
        underlayMtu: (path.mtu ?? 0) + overhead,
        underlayWanted: path.mtuWanted + overhead,
      });
    const both: [string, string][] = [[node, peer], [peer, node]];
    const back = far?.paths.find((one) =>
      one.node === node && one.kind === "POD" && one.family === path.family
    );
    if (path.state === "UNREACHABLE") {
      const isUnderlayWell = underlay.some(({ answeredS }) =>
        answeredS !== undefined && answeredS + LATER_S < (path.answeredS ?? Infinity) &&
        answeredS <= heardSMax(report.intervalS)
      );
      const kind = isUnderlayWell ? "blocked" : "dead";
      const isHeard = (one: NodePath | undefined, intervalS: number) =>
        one?.heardS !== undefined && one.heardS <= heardSMax(intervalS);
      const directions = isHeard(path, report.intervalS)
        ? [both[0]]
        : isHeard(back, far?.intervalS ?? 0)
        ? [both[1]]
        : both;
      for (const [from, to] of directions) add(kind, from, to, 1, path.stateSinceUnixS);
      continue;
    }
    if (path.state === "LOSSY") {
      // Each node counts what it hears of the other; what it concludes of the other direction is a guess from few packets.
      const losses = [back?.lossIn ?? path.lossOut ?? path.loss, path.lossIn ?? 0];
      for (const [index, [from, to]] of both.entries()) {
        if (losses[index] >= LOSS_PART) add("lossy", from, to, losses[index], path.stateSinceUnixS);
      }
    }
    if (path.mtu !== undefined && path.mtu < path.mtuWanted) {
      add("small", node, peer, 0, path.mtuSinceUnixS);
    }
  }
  // Without a tunnel the way of pods' packets is the underlay.
  for (
    const { mtu, mtuWanted, mtuSearching, family, mtuSinceUnixS } of report.tunnelPort === 0 ? [] : underlay
  ) {
    if (mtu === undefined || mtu >= mtuWanted || out.some(({ kind }) => kind !== "lossy")) continue;
    out.push({
      kind: "pieces",
      from: node,
      to: peer,
      family,
      sinceUnixS: mtuSinceUnixS,
      loss: 0,
      mtu: mtu - overhead,
      searching: mtuSearching,
      underlayMtu: mtu,
      underlayWanted: mtuWanted,
    });
  }
  return out;
}

function troubleOf(directions: readonly Direction[], probes: ReadonlyMap<string, Probes>): PairTrouble {
  const kind = KINDS.find((one) => directions.some((direction) => direction.kind === one))!;
  const worst = directions.filter((direction) => direction.kind === kind);
  const ways = [...new Set(worst.map(({ from, to }) => `${from} ${to}`))];
  const [first] = worst, nodes = [first.from, first.to].sort() as [string, string];
  const one = ways.length === 1;
  const where = one ? `from ${first.from} to ${first.to}` : `between ${nodes[0]} and ${nodes[1]}`;
  const loss = Math.max(...worst.map((direction) => direction.loss));
  const smallest = worst.reduce((a, b) => b.mtu < a.mtu ? b : a);
  const reports = nodes.flatMap((node) => probes.get(node) ?? []);
  const families = new Set(
    reports.flatMap(({ paths }) =>
      paths.filter((path) => path.kind === "POD" && nodes.includes(path.node)).map((path) => path.family)
    ),
  );
  const affected = new Set(worst.map(({ family }) => family));
  const family = kind !== "pieces" && affected.size < families.size ? ` of ${[...affected][0]}` : "";
  const unheard = nodes.find((node) => !probes.has(node));
  const port = reports.find(({ tunnelPort }) => tunnelPort > 0)?.tunnelPort ?? 0;
  return {
    kind,
    nodes,
    sinceUnixS: worst.reduce((since, direction) => Math.min(since, direction.sinceUnixS), first.sinceUnixS),
    weight: kind === "small" || kind === "pieces" ? -smallest.mtu : loss + (one ? 0 : 1),
    ...TEXTS[kind]({ where, family, one, loss, first, nodes, port, smallest, unheard }),
  };
}

interface Words {
  /** "from node-1 to node-2", "between node-1 and node-2". */
  where: string;
  /** " of IPv6" where it is not all. */
  family: string;
  one: boolean;
  loss: number;
  first: Direction;
  nodes: readonly [string, string];
  /** 0: routed. */
  port: number;
  smallest: Direction;
  /** Of which of the two we have no report. */
  unheard: string | undefined;
}
type Texts = Pick<PairTrouble, "message" | "effect" | "remedy">;

const TEXTS: Readonly<Record<PairKind, (words: Words) => Texts>> = {
  dead: ({ where, family, one, first, nodes, unheard }) => ({
    message: `nothing${family} gets through ${where}${one ? "; the other direction works" : ""}`,
    // The datapath service answers probes; the kernel carries pods' packets without it.
    effect: `pods of ${nodes[0]} and ${nodes[1]} do not reach each other${
      one || unheard === undefined
        ? ""
        : `, unless only the datapath service of ${unheard} hangs (weir status there says so)`
    }`,
    remedy: one
      ? `look at the way ${where}: ip route and ip neigh on ${first.from}, firewalls on the way and on ${first.to}`
      : `are both up? then look at the network ${where}: links, routes, ip neigh, firewalls`,
  }),
  blocked: ({ where, family, one, nodes, port, first }) => ({
    message: `packets of pods${family} do not get through ${where}, though the nodes reach each other`,
    effect: `pods of ${nodes[0]} and ${nodes[1]} do not reach each other`,
    remedy: port > 0
      ? `let UDP port ${port} through ${where}: firewalls of both nodes and of the network (probes are UDP port 7446 in it)`
      : `look at the way ${where}: the network must have routes to the pod CIDR of ${
        one ? first.to : "both"
      }, and let it through`,
  }),
  lossy: ({ where, family, loss }) => ({
    message: `${Math.round(loss * 100)} % of the packets${family} are lost ${where}`,
    effect: "connections between their pods are slow or break",
    remedy:
      `look at the link ${where}: errors and drops in ip -s link, load, firewalls that limit rates, what lies between`,
  }),
  small: ({ where, family, smallest }) => ({
    message: smallest.searching
      ? `large packets of pods${family} are lost ${where}; which size arrives is being found out`
      : `packets of pods${family} larger than ${smallest.mtu} bytes are lost ${where}`,
    effect: "connections open, and hang when more is sent",
    remedy: mtuRemedy(where, smallest),
  }),
  pieces: ({ where, smallest }) => ({
    message: `large packets of pods travel in pieces ${where}: ${
      smallest.searching ? "less fits than they have" : `${smallest.underlayMtu} bytes fit, and they have`
    } ${smallest.underlayWanted}`,
    effect: "they are slower, and lost where pieces are filtered",
    remedy: mtuRemedy(where, smallest),
  }),
};
/** The least that a node may have (IPv6). */
const MTU_MIN = 1280;

function mtuRemedy(where: string, { underlayMtu, underlayWanted, searching }: Direction): string {
  const raise =
    `set the MTU of every device ${where} to ${underlayWanted} or more (ip link set dev DEVICE mtu ${underlayWanted})`;
  return searching || underlayMtu < MTU_MIN
    ? raise
    : `${raise}; or lower pods' on all nodes: weir agent --mtu ${underlayMtu}`;
}
