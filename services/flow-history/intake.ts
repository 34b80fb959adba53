/**
 * What comes from the relay, on its way to the database: counted, sampled, made into connections and sums, packed.
 *
 *     GetFlowsResponse ─▶ seen before? ─▶ ends ─▶ connections, rollups (all flows)
 *                                             └▶ sampler ─▶ blocks (those that are kept)
 *
 * @module
 */
import type { Clock } from "@weir/common";
import { type Endpoint, Flow } from "@weir/proto/flow";
import { Connection } from "@weir/proto/history";
import { GetFlowsResponse } from "@weir/proto/observer";
import { type Block, BlockBuilder } from "./block.ts";
import { backwardKey, connectionKey, ConnectionTable, type EndedConnection } from "./connection_table.ts";
import { Counts } from "./counts.ts";
import { EndTable } from "./end_table.ts";
import { flowMs, flowTerms, isDrop, isTrouble, transportOf } from "./flow_facts.ts";
import { lengthTerm } from "./connection_length.ts";
import { FollowedNodes } from "./followed_nodes.ts";
import { RollupTable } from "./rollup_table.ts";
import { Sampler } from "./sampler.ts";
import { nodeNameOf } from "./word.ts";

/** How far a node's clock may be ahead before its flows have the time when they came. */
export const AHEAD_MS_MAX = 60_000;

/** A flow takes about 800 bytes; what takes more than this is no flow that anybody made. */
export const FLOW_BYTES_MAX = 64 << 10;
/** Nodes whose clock is wrong, that are named. */
const SKEWED_NODES_MAX = 64;
/** Nobody loses more at once; a node that says so is wrong. */
const LOST_MAX = 1e9;

/** What the intake is made of. */
export interface IntakeOptions {
  readonly clock: Clock;
  /** Flows that are kept in a second. */
  readonly flowsPerSMax: number;
  /** Flows that are older have the time when they came, milliseconds. */
  readonly ageMsMax: number;
}

/** What comes from the relay, on its way to the database. */
export class Intake {
  readonly ends: EndTable = new EndTable();
  readonly connections: ConnectionTable = new ConnectionTable();
  readonly rollups: RollupTable = new RollupTable();
  readonly counts: Counts = new Counts();
  readonly nodes: FollowedNodes;
  readonly flowBlocks: BlockBuilder;
  readonly connectionBlocks: BlockBuilder;
  readonly sampler: Sampler;
  /** Answers that could not be read; flows whose time could not be. */
  unreadable = 0;
  skewed = 0;
  /** The newest time that a flow had, Unix milliseconds. Behind a clock that was put back it is in the future. */
  newestMs = 0;
  /** Node -> when a flow of it last had a time that cannot be; the newest last. */
  readonly skewedNodes: Map<string, number> = new Map();
  #full: Block[] = [];
  #nextBlock = 1;
  readonly #options: IntakeOptions;

  constructor(options: IntakeOptions) {
    this.#options = options;
    this.sampler = new Sampler(options.flowsPerSMax);
    this.nodes = new FollowedNodes(this.counts);
    this.flowBlocks = new BlockBuilder("f", () => this.#nextBlock++);
    this.connectionBlocks = new BlockBuilder("c", () => this.#nextBlock++);
  }

  /** Numbers of blocks go on from here. */
  goOn(nextBlock: number): void {
    this.#nextBlock = Math.max(this.#nextBlock, nextBlock);
  }

  /** Takes answers of the relay as they came. Nothing in them can end the process. */
  take(messages: readonly Uint8Array[]): void {
    for (const bytes of messages) {
      try {
        this.#takeOne(bytes);
      } catch {
        this.unreadable++;
      }
    }
  }

  /** Blocks that are full or old, with what ended and what its sums are. `all`: also what is not. */
  takeBlocks(all = false): Block[] {
    const { clock } = this.#options, nowMs = clock.monotonicMs();
    for (const ended of this.connections.takeEnded(nowMs)) this.#takeEnded(ended);
    const full = this.#full.splice(0), late = all ? Infinity : nowMs;
    const old = [...this.flowBlocks.takeOld(late), ...this.connectionBlocks.takeOld(late)];
    for (const block of old) this.#count(block);
    return [...full, ...old];
  }

  #takeOne(bytes: Uint8Array): void {
    if (bytes.length > FLOW_BYTES_MAX) throw new RangeError("it is too long");
    const { clock } = this.#options, nowMs = clock.nowMs();
    const { flow, lost_events: lost, node_status: status, ...answer } = GetFlowsResponse.decode(bytes);
    const node = nodeNameOf(answer.node_name || (flow?.node_name ?? ""));
    if (status !== undefined) return this.nodes.told(status, nowMs);
    if (lost !== undefined) {
      return this.counts.lost(node, lost.source, nowMs, Math.min(lost.num_events_lost, LOST_MAX));
    }
    if (flow === undefined) return;
    this.#takeFlow(flow, node, bytes);
  }

  #takeFlow(flow: Flow, node: string, bytes: Uint8Array): void {
    const { clock, ageMsMax } = this.#options, nowMs = clock.nowMs(), arrivedMs = clock.monotonicMs();
    const ownMs = flowMs(flow) ?? NaN;
    const isBelieved = ownMs <= nowMs + AHEAD_MS_MAX && ownMs >= nowMs - ageMsMax;
    const unixMs = isBelieved ? ownMs : nowMs;
    if (!isBelieved) this.#noteSkew(node, nowMs);
    this.newestMs = Math.max(this.newestMs, unixMs);
    if (flow.traffic !== undefined) {
      // No packet that passed, and in no sum: only its connection has it.
      return this.connections.carried(flow, { transport: transportOf(flow), unixMs, nowMs: arrivedMs });
    }
    const fate = this.nodes.came(node, { unixMs, arrivedMs, uuid: flow.uuid });
    if (fate === "known") return;
    const transport = transportOf(flow);
    const source = this.ends.idOf(flow.source, unixMs),
      destination = this.ends.idOf(flow.destination, unixMs);
    // One copy of each end, however many connections have it.
    flow.source = this.ends.get(source)?.endpoint ?? withoutLabels(flow.source);
    flow.destination = this.ends.get(destination)?.endpoint ?? withoutLabels(flow.destination);
    const place = this.connections.add(flow, { transport, unixMs, nowMs: arrivedMs, source, destination });
    this.rollups.add(flow, place, { transport, unixMs, source, destination });
    if (fate === "stored") return;
    const key = place.isReply ? backwardKey(flow, transport) : connectionKey(flow, transport);
    const isImportant = isDrop(flow) || isTrouble(flow) || flow.verdict === "DROPPED" ||
      flow.verdict === "AUDIT" ||
      flow.verdict === "ERROR";
    if (!this.sampler.keeps(key, isImportant, arrivedMs)) return this.counts.sampledOut(node, unixMs);
    const terms = flowTerms(flow, source, destination, transport);
    const full = this.flowBlocks.add({ bytes, unixMs, node }, terms, arrivedMs);
    if (full !== undefined) this.#fill(full);
  }

  #noteSkew(node: string, nowMs: number): void {
    this.skewed++;
    this.skewedNodes.delete(node);
    if (this.skewedNodes.size >= SKEWED_NODES_MAX) {
      this.skewedNodes.delete(this.skewedNodes.keys().next().value!);
    }
    this.skewedNodes.set(node, nowMs);
  }

  #takeEnded({ connection, sourceEnd, destinationEnd }: EndedConnection): void {
    const { startUnixS, endUnixS } = connection;
    const item = {
      bytes: Connection.encode(connection),
      unixMs: endUnixS * 1000,
      startMs: startUnixS * 1000,
      node: "",
    };
    const terms = connectionTerms(connection, sourceEnd, destinationEnd);
    const full = this.connectionBlocks.add(item, terms, this.#options.clock.monotonicMs());
    if (full !== undefined) this.#fill(full);
  }

  #fill(block: Block): void {
    this.#count(block);
    this.#full.push(block);
  }

  #count({ kind, sinceMs, nodes }: Block): void {
    if (kind === "f") this.counts.stored(sinceMs, nodes);
  }
}

function withoutLabels(end: Endpoint | undefined): Endpoint | undefined {
  return end && { ...end, labels: [], workloads: [] };
}

/** Words of a connection, as those of a flow. */
export function* connectionTerms(
  connection: Connection,
  sourceEnd: number,
  destinationEnd: number,
): Generator<string> {
  for (const term of flowTerms(flowOfConnection(connection), sourceEnd, destinationEnd, connection)) {
    yield `c${term.slice(1)}`;
  }
  const { startUnixS, endUnixS } = connection, length = lengthTerm((endUnixS - startUnixS) * 1000);
  if (length !== undefined) yield length;
}

/** A connection as the flow that a filter asks. Pure. */
export function flowOfConnection(connection: Connection): Flow {
  const { protocol, sourcePort, destinationPort, sourceIp, destinationIp } = connection;
  const ports = { source_port: sourcePort, destination_port: destinationPort };
  const l4 = protocol === "TCP" || protocol === "UDP" || protocol === "SCTP"
    ? { [protocol]: ports }
    : protocol === ""
    ? undefined
    : { [protocol]: {} };
  return {
    ...EMPTY,
    IP: {
      source: sourceIp,
      destination: destinationIp,
      ipVersion: sourceIp.includes(":") ? "IPv6" : "IPv4",
      encrypted: false,
      source_xlated: "",
    },
    l4: l4 as Flow["l4"],
    source: connection.source,
    destination: connection.destination,
    destination_names: connection.destinationNames,
    destination_service: connection.destinationService,
    verdict: connection.verdict,
    drop_reason_desc: connection.dropReason,
  };
}
const EMPTY: Flow = Flow.create();
