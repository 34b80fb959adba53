/**
 * One map: the pairs of a flow table as cards and edges of one grouping. It looks only at what changed, keeps each card and edge
 * encoded, and gives every reader what became other since the reader's last look: a reader that is slow gets one large difference
 * instead of many small ones, and costs nothing meanwhile.
 *
 *     changed pairs ─▶ their edges ─▶ their cards ─▶ encoded ─▶ log of ticks ─▶ difference since tick N, made once for all at N
 *
 * @module
 */
import type { Card, CardPort, Edge, EdgeProtocol, EdgeVerdict, Group, MapLimits } from "../api.ts";
import { type CardHead, cardOf, OTHER } from "./flow_end.ts";
import type { FlowTable, KnownEnd, Pair } from "./flow_table.ts";
import { twoDigits } from "./rate.ts";

/** Defaults of what one map shows. */
export const MAP_LIMITS: MapLimits = {
  cardsMax: 2000,
  edgesMax: 10_000,
  portsPerCardMax: 16,
  causesMax: 2000,
};
/** Edges that are looked at in one tick; the others wait for the next. */
const EDGES_PER_TICK_MAX = 4000;
/** Ticks that a reader may be behind; one that is further begins anew. */
const TICKS_HELD = 120;
const REASONS_MAX = 8, PROTOCOLS_MAX = 16, NODES_MAX = 64, IDENTITIES_MAX = 64;

interface CardState {
  readonly head: CardHead;
  readonly edges: Set<EdgeState>;
  /** "" before it was first encoded. */
  text: string;
  value: Card | undefined;
}
interface EdgeState {
  readonly id: string;
  readonly from: CardState;
  readonly to: CardState;
  readonly pairs: Set<Pair>;
  text: string;
  value: Edge | undefined;
}
/** What became other in one tick. */
interface Tick {
  readonly number: number;
  readonly cards: Set<CardState>;
  readonly edges: Set<EdgeState>;
  readonly goneCards: Set<string>;
  readonly goneEdges: Set<string>;
}

/** Cards and edges as JSON texts, ready to be put between brackets. */
export interface EncodedMap {
  readonly cards: readonly string[];
  readonly edges: readonly string[];
  readonly goneCards: readonly string[];
  readonly goneEdges: readonly string[];
}

/** One map. */
export class MapView {
  readonly group: Group;
  /** Number of the newest tick. */
  tick = 0;
  /** Ends that have no card, pairs that have no edge of their own. */
  readonly foldedCards = new Set<KnownEnd>();
  readonly foldedEdges = new Set<Pair>();
  readonly #limits: MapLimits;
  readonly #cards = new Map<string, CardState>();
  readonly #edges = new Map<string, EdgeState>();
  readonly #edgeOfPair = new Map<Pair, EdgeState>();
  /** Edges to be looked at, the longest waiting first. */
  readonly #waiting = new Set<EdgeState>();
  /** Edges whose rates fall by themselves. */
  readonly #lively = new Set<EdgeState>();
  #ticks: Tick[] = [];

  /** Of a window of the past: its seconds, over which rates are the mean. */
  readonly #windowS: number | undefined;

  constructor(group: Group, limits: MapLimits = MAP_LIMITS, windowS?: number) {
    this.group = group;
    this.#limits = limits;
    this.#windowS = windowS;
  }

  /** The map of a window of the past, Unix seconds: whole at once, its rates the mean over the window. */
  static ofWindow(
    group: Group,
    table: FlowTable,
    { sinceS, untilS }: { sinceS: number; untilS: number },
  ): MapView {
    const view = new MapView(group, undefined, Math.max(1, untilS - sinceS));
    view.begin(table);
    while (view.update(untilS));
    return view;
  }

  /** Takes in everything that a table holds: a map that begins later than the table. */
  begin(table: FlowTable): void {
    for (const pair of table.pairs.values()) this.change(pair);
  }

  /** A pair has news. */
  change(pair: Pair): void {
    this.#waiting.add(this.#edgeOf(pair));
  }

  /** A pair is gone. */
  remove(pair: Pair): void {
    const edge = this.#edgeOfPair.get(pair);
    if (edge === undefined) return;
    this.#edgeOfPair.delete(pair);
    this.foldedEdges.delete(pair);
    edge.pairs.delete(pair);
    this.#waiting.add(edge);
  }

  /** Makes the next tick. @returns whether anything became other */
  update(nowS: number): boolean {
    const tick: Tick = {
      number: this.tick + 1,
      cards: new Set(),
      edges: new Set(),
      goneCards: new Set(),
      goneEdges: new Set(),
    };
    for (const edge of this.#lively) this.#waiting.add(edge);
    const cards = new Set<CardState>();
    let looked = 0;
    for (const edge of this.#waiting) {
      if (looked++ >= EDGES_PER_TICK_MAX) break;
      this.#waiting.delete(edge);
      if (edge.pairs.size === 0) this.#dropEdge(edge, tick);
      else this.#encodeEdge(edge, nowS, tick);
      cards.add(edge.from).add(edge.to);
    }
    for (const card of cards) {
      if (card.edges.size === 0) this.#dropCard(card, tick);
      else this.#encodeCard(card, nowS, tick);
    }
    const isNews = tick.cards.size + tick.edges.size + tick.goneCards.size + tick.goneEdges.size > 0;
    if (!isNews) return false;
    this.tick = tick.number;
    this.#ticks.push(tick);
    if (this.#ticks.length > TICKS_HELD) this.#ticks.shift();
    return true;
  }

  /** Everything, encoded. */
  snapshot(): EncodedMap {
    return {
      cards: [...this.#cards.values()].flatMap(({ text }) => text === "" ? [] : [text]),
      edges: [...this.#edges.values()].flatMap(({ text }) => text === "" ? [] : [text]),
      goneCards: [],
      goneEdges: [],
    };
  }

  /** What became other after a tick; undefined where that is too long ago. */
  since(tick: number): EncodedMap | undefined {
    if (tick > this.tick) return undefined;
    const news = this.#ticks.filter(({ number }) => number > tick);
    if (news.length !== this.tick - tick) return undefined;
    const cards = new Set<CardState>(), edges = new Set<EdgeState>();
    const goneCards = new Set<string>(), goneEdges = new Set<string>();
    for (const one of news) {
      for (const card of one.cards) cards.add(card);
      for (const edge of one.edges) edges.add(edge);
      for (const id of one.goneCards) goneCards.add(id);
      for (const id of one.goneEdges) goneEdges.add(id);
    }
    // Of what went and came again only what it is now; of what came and went only that.
    return {
      cards: [...cards].flatMap((card) => this.#cards.get(card.head.id) === card ? [card.text] : []),
      edges: [...edges].flatMap((edge) => this.#edges.get(edge.id) === edge ? [edge.text] : []),
      goneCards: [...goneCards].filter((id) => !this.#cards.has(id)),
      goneEdges: [...goneEdges].filter((id) => !this.#edges.has(id)),
    };
  }

  /** A card and the edges that end at it, the busiest first; undefined where there is none. */
  card(id: string): { card: Card; edges: Edge[] } | undefined {
    const state = this.#cards.get(id);
    if (state?.value === undefined) return undefined;
    const edges = [...state.edges].flatMap(({ value }) => value === undefined ? [] : [value]);
    return { card: state.value, edges: edges.sort((a, b) => b.rate - a.rate || b.flows - a.flows) };
  }

  #edgeOf(pair: Pair): EdgeState {
    const known = this.#edgeOfPair.get(pair);
    if (known !== undefined) return known;
    let from = this.#cardOf(pair.from), to = this.#cardOf(pair.to);
    let id = `${from.head.id}>${to.head.id}`;
    if (!this.#edges.has(id) && this.#edges.size >= this.#limits.edgesMax) {
      this.foldedEdges.add(pair);
      from = to = this.#other();
      id = `${from.head.id}>${to.head.id}`;
    }
    let edge = this.#edges.get(id);
    if (edge === undefined) {
      edge = { id, from, to, pairs: new Set(), text: "", value: undefined };
      this.#edges.set(id, edge);
      from.edges.add(edge);
      to.edges.add(edge);
    }
    edge.pairs.add(pair);
    this.#edgeOfPair.set(pair, edge);
    return edge;
  }

  #cardOf(known: KnownEnd): CardState {
    const head = cardOf(known.end, this.group), state = this.#cards.get(head.id);
    if (state !== undefined) return state;
    if (this.#cards.size < this.#limits.cardsMax) return this.#newCard(head);
    this.foldedCards.add(known);
    return this.#other();
  }

  /** Beyond the maximum, so that there is always room for it. */
  #other(): CardState {
    const head = cardOf(OTHER, this.group);
    return this.#cards.get(head.id) ?? this.#newCard(head);
  }

  #newCard(head: CardHead): CardState {
    const card: CardState = { head, edges: new Set(), text: "", value: undefined };
    this.#cards.set(head.id, card);
    return card;
  }

  #dropEdge(edge: EdgeState, tick: Tick): void {
    this.#edges.delete(edge.id);
    this.#lively.delete(edge);
    edge.from.edges.delete(edge);
    edge.to.edges.delete(edge);
    tick.goneEdges.add(edge.id);
  }

  #dropCard(card: CardState, tick: Tick): void {
    if (this.#cards.get(card.head.id) !== card) return;
    this.#cards.delete(card.head.id);
    tick.goneCards.add(card.head.id);
  }

  #ratesAt(nowS: number): Rates {
    const windowS = this.#windowS;
    if (windowS !== undefined) {
      return {
        rate: (pair) => flowsOf(pair) / windowS,
        drops: (pair) => pair.dropped / windowS,
      };
    }
    return { rate: (pair) => pair.rate.at(nowS), drops: (pair) => pair.dropRate.at(nowS) };
  }

  #encodeEdge(edge: EdgeState, nowS: number, tick: Tick): void {
    const value = edgeValue(edge, this.#ratesAt(nowS)), text = JSON.stringify(value);
    if (this.#windowS === undefined && (value.rate > 0 || value.dropRate > 0)) this.#lively.add(edge);
    else this.#lively.delete(edge);
    edge.value = value;
    if (text === edge.text) return;
    edge.text = text;
    tick.edges.add(edge);
  }

  #encodeCard(card: CardState, nowS: number, tick: Tick): void {
    const value = cardValue(card, this.#ratesAt(nowS), this.#limits), text = JSON.stringify(value);
    card.value = value;
    if (text === card.text) return;
    card.text = text;
    tick.cards.add(card);
  }
}

/** Per second, of a pair. */
interface Rates {
  rate(pair: Pair): number;
  drops(pair: Pair): number;
}

function edgeValue({ id, from, to, pairs }: EdgeState, rates: Rates): Edge {
  let allowed = 0, dropped = 0, audited = 0, trouble = 0, rate = 0, dropRate = 0;
  let firstSeenS = Infinity, lastSeenS = 0;
  const protocols = new Map<string, EdgeProtocol & { flows: number; dropped: number }>();
  const reasons = new Map<string, number>();
  for (const pair of pairs) {
    allowed += pair.allowed;
    dropped += pair.dropped;
    audited += pair.audited;
    trouble += pair.trouble;
    rate += rates.rate(pair);
    dropRate += rates.drops(pair);
    firstSeenS = Math.min(firstSeenS, pair.firstSeenS);
    lastSeenS = Math.max(lastSeenS, pair.lastSeenS);
    for (const [reason, count] of pair.reasons) reasons.set(reason, (reasons.get(reason) ?? 0) + count);
    const { protocol, port, application } = pair, key = `${protocol} ${port}`;
    const row = protocols.get(key) ?? { protocol, port, application, flows: 0, dropped: 0 };
    protocols.set(key, {
      ...row,
      application: application || row.application,
      flows: row.flows + flowsOf(pair),
      dropped: row.dropped + pair.dropped,
    });
  }
  return {
    id,
    from: from.head.id,
    to: to.head.id,
    verdict: verdictOf({ allowed, dropped, audited }),
    rate: twoDigits(rate),
    dropRate: twoDigits(dropRate),
    flows: allowed + dropped + audited,
    allowed,
    dropped,
    audited,
    trouble,
    protocols: most([...protocols.values()], PROTOCOLS_MAX, (row) => row.flows),
    reasons: most(
      [...reasons].map(([reason, count]) => ({ reason, count })),
      REASONS_MAX,
      (row) => row.count,
    ),
    firstSeenUnixS: Math.floor(firstSeenS),
    lastSeenUnixS: Math.floor(lastSeenS),
  };
}

function verdictOf(
  { allowed, dropped, audited }: Record<"allowed" | "dropped" | "audited", number>,
): EdgeVerdict {
  if (dropped > 0) return allowed + audited > 0 ? "mixed" : "dropped";
  return audited > 0 ? "audited" : "allowed";
}

const flowsOf = (pair: Pair) => pair.allowed + pair.dropped + pair.audited;

function cardValue(card: CardState, rates: Rates, limits: MapLimits): Card {
  let rateIn = 0, rateOut = 0, droppedIn = 0, droppedOut = 0, lastSeenS = 0;
  const ports = new Map<string, CardPort & { flows: number }>();
  const ends = new Set<KnownEnd>();
  for (const edge of card.edges) {
    const { rate, dropRate, lastSeenUnixS } = edge.value ?? edgeValue(edge, rates);
    lastSeenS = Math.max(lastSeenS, lastSeenUnixS);
    if (edge.from === card) {
      rateOut += rate;
      droppedOut += dropRate;
    }
    if (edge.to === card) {
      rateIn += rate;
      droppedIn += dropRate;
    }
    for (const pair of edge.pairs) {
      if (edge.from === card) ends.add(pair.from);
      if (edge.to !== card) continue;
      ends.add(pair.to);
      const { protocol, port, application } = pair, key = `${protocol} ${port}`;
      const row = ports.get(key) ?? { protocol, port, application, rate: 0, dropped: 0, flows: 0 };
      ports.set(key, {
        ...row,
        application: application || row.application,
        rate: row.rate + rates.rate(pair),
        dropped: row.dropped + pair.dropped,
        flows: row.flows + flowsOf(pair),
      });
    }
  }
  const newest = [...ends].reduce<KnownEnd | undefined>(
    (a, b) => a === undefined || b.lastSeenS > a.lastSeenS ? b : a,
    undefined,
  );
  const isWorkload = newest?.end.kind === "workload";
  return {
    ...card.head,
    nodes: [...new Set([...ends].map(({ end }) => end.node).filter((node) => node !== ""))].sort()
      .slice(0, NODES_MAX),
    labels: isWorkload && card.head.kind === "workload" ? newest.end.labels : [],
    identities: [...new Set([...ends].map(({ end }) => end.identity))].sort((a, b) => a - b)
      .slice(0, IDENTITIES_MAX),
    pods: isWorkload ? podsOf(ends) : 0,
    ports: most([...ports.values()], limits.portsPerCardMax, (row) => row.flows)
      .map(({ protocol, port, application, rate, dropped }) => ({
        protocol,
        port,
        application,
        rate: twoDigits(rate),
        dropped,
      })),
    rateIn: twoDigits(rateIn),
    rateOut: twoDigits(rateOut),
    droppedIn: twoDigits(droppedIn),
    droppedOut: twoDigits(droppedOut),
    lastSeenUnixS: lastSeenS,
  };
}

function podsOf(ends: ReadonlySet<KnownEnd>): number {
  const pods = new Set<string>();
  for (const { end, pods: names } of ends) for (const name of names) pods.add(`${end.namespace}/${name}`);
  return pods.size;
}

/** The `max` rows with the most of something, in that order. */
function most<T>(rows: T[], max: number, of: (row: T) => number): T[] {
  return rows.sort((a, b) => of(b) - of(a)).slice(0, max);
}
