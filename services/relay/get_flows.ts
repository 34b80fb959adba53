/**
 * GetFlows of the whole cluster: each node is asked what the caller asks, and the answers are merged by time.
 *
 *     caller ◀─ batches ◀─ FlowMerge ◀─┬─ queue ◀─ node-1      a queue that is full is not read: the node's own ring then
 *                                      ├─ queue ◀─ node-2      says what it lost
 *                                      └─ node_status          away, back, refused, at fault: at once, not in the order of flows
 *
 * @module
 */
import { type Clock, concatBytes, type Counter, errorText, type Logger, untilAborted } from "@weir/common";
import { GrpcError } from "@weir/grpc";
import { GetFlowsRequest, GetFlowsResponse } from "@weir/proto/observer";
import type { NodeState } from "@weir/proto/relay";
import { timestampOf } from "@weir/proto/timestamp";
import { FlowMerge, type NodeQueue } from "./flow_merge.ts";
import { NodeMemory } from "./node_memory.ts";
import type { NodeLink } from "./node_link.ts";
import type { NodeLinks } from "./node_links.ts";
import { NodeAnswer, NodeFault } from "./node_answer.ts";

const PATH = "/observer.Observer/GetFlows";
/** What is due is looked for so often. */
const TICK_MS = 100;
/** A node that is alive and answers nothing of what is over is left out after this time. */
const QUIET_MS_MAX = 10_000;
/** A node that ends what should go on is asked again after this time, and later and later. */
const AGAIN_MS_MIN = 1000, AGAIN_MS_MAX = 30_000;
/** Events that a caller who reads nothing may have waiting; the oldest go. */
const EVENTS_MAX = 1000;

/** What a request is answered with. */
export interface GetFlowsParts {
  readonly links: NodeLinks;
  /** Of the relay: who tells of nodes. */
  readonly nodeName: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Nodes that sent what they should not. */
  readonly faults: Counter;
}

/**
 * Answers one request, as batches of encoded GetFlowsResponse.
 * @param bytes the request as it came: fields that are unknown here reach the nodes
 * @throws {GrpcError} INVALID_ARGUMENT where every node that was asked refuses the request
 */
export async function* getFlows(
  bytes: Uint8Array,
  parts: GetFlowsParts,
  signal: AbortSignal,
): AsyncGenerator<readonly Uint8Array[]> {
  const request = GetFlowsRequest.decode(bytes), over = new AbortController();
  const answer = new Answer(request, bytes, parts, AbortSignal.any([signal, over.signal]));
  try {
    await parts.links.settled(signal);
    answer.begin();
    for (;;) {
      if (signal.aborted) return;
      const { batch, isEnd } = answer.take();
      if (batch.length > 0) yield batch;
      else if (isEnd) return;
      else await answer.wait();
    }
  } finally {
    over.abort();
  }
}

/** One request while it is answered. */
class Answer {
  readonly #request: GetFlowsRequest;
  readonly #bytes: Uint8Array;
  readonly #parts: GetFlowsParts;
  readonly #signal: AbortSignal;
  readonly #merge = new FlowMerge();
  readonly #events: Uint8Array[] = [];
  /** Nodes that are read now. */
  readonly #reading = new Set<string>();
  /** One for each node, however often it comes back: what it sent before counts. */
  readonly #queues = new Map<string, NodeQueue>();
  /** Nodes that sent what they should not: they are asked no more. */
  readonly #atFault = new Set<string>();
  /** What came of each: it is asked for the rest when it is back. */
  readonly #memories = new Map<string, NodeMemory>();
  /** Nodes that failed and did not go on for long since then. */
  readonly #failures = new Map<string, { text: string; times: number }>();
  readonly #startUnixMs: number;
  #answered = 0;
  #refused: GrpcError | undefined;
  /** Ends the wait of the caller's loop; the waits of queues that were full. */
  #wake = new AbortController();
  #space = new AbortController();

  constructor(request: GetFlowsRequest, bytes: Uint8Array, parts: GetFlowsParts, signal: AbortSignal) {
    this.#request = request;
    this.#bytes = bytes;
    this.#parts = parts;
    this.#signal = signal;
    this.#startUnixMs = parts.clock.nowMs();
  }

  begin(): void {
    const { links } = this.#parts, all = links.list();
    const connected = all.filter(({ state }) => state === "connected");
    if (connected.length > 0) this.#tell("NODE_CONNECTED", connected.map(({ name }) => name));
    const away = all.filter(({ state }) => state !== "connected");
    if (away.length > 0) {
      const why = away.map(({ name, reason }) => `${name}: ${reason}`).join("; ");
      this.#tell("NODE_UNAVAILABLE", away.map(({ name }) => name), why);
    }
    const { follow } = this.#request;
    for (const link of connected) this.#read(link, follow ? this.#bytesWithPlaces() : this.#bytes);
    if (follow) links.follow(this.#changed, this.#signal);
  }

  /** What goes out now. */
  take(): { batch: readonly Uint8Array[]; isEnd: boolean } {
    const { clock } = this.#parts, { follow } = this.#request;
    const flows = follow ? this.#merge.takeDue(clock.monotonicMs(), clock.nowMs()) : this.#merge.takeOldest();
    const batch = [...this.#events.splice(0), ...flows];
    if (flows.length > 0) {
      this.#space.abort();
      this.#space = new AbortController();
    }
    const isOver = this.#reading.size === 0 && this.#merge.isEmpty;
    // A request that everybody refuses is the caller's mistake.
    if (isOver && this.#refused !== undefined && this.#answered === 0) throw this.#refused;
    return { batch, isEnd: isOver && !follow };
  }

  /** Until there may be something to take. */
  async wait(): Promise<void> {
    const { clock } = this.#parts;
    if (this.#request.follow && this.#merge.hasItems) return await clock.sleep(TICK_MS, this.#signal);
    const wake = AbortSignal.any([this.#wake.signal, this.#signal]);
    await untilAborted(wake);
    this.#wake = new AbortController();
  }

  #changed = (link: NodeLink): void => {
    const { name, state, reason } = link;
    if (state === "connected") {
      this.#tell("NODE_CONNECTED", [name]);
      this.#read(link, this.#again(name));
    } else if (state === "away") this.#tell("NODE_UNAVAILABLE", [name], `${name}: ${reason}`);
    else if (state === "gone") this.#tell("NODE_GONE", [name]);
  };

  /** The request as it came, and that the node should tell places. */
  #bytesWithPlaces(): Uint8Array {
    return concatBytes([this.#bytes, GetFlowsRequest.encode({ after: {} })]);
  }

  #memoryOf(name: string): NodeMemory {
    const memory = this.#memories.get(name) ?? new NodeMemory(this.#request.follow);
    this.#memories.set(name, memory);
    return memory;
  }

  /** What a node is asked that comes later, or again: all that was not seen of it. */
  #again(name: string): Uint8Array {
    return this.#memoryOf(name).request(this.#request, this.#startUnixMs);
  }

  async #read(link: NodeLink, request: Uint8Array): Promise<void> {
    const { name, connection } = link, { clock } = this.#parts, { follow } = this.#request;
    if (connection === undefined || this.#reading.has(name) || this.#atFault.has(name)) return;
    this.#reading.add(name);
    const queue = this.#merge.open(this.#queues.get(name));
    this.#queues.set(name, queue);
    const { number, field_mask } = this.#request, isMasked = field_mask != null;
    const judged = new NodeAnswer({ node: name, number, isFollowed: follow, isMasked });
    const startMs = clock.monotonicMs();
    let isLast = false;
    try {
      await this.#untilSpace(queue);
      const options = { signal: this.#signal, quietMsMax: follow ? undefined : QUIET_MS_MAX };
      let askedMs = clock.monotonicMs();
      for await (const messages of connection.stream(PATH, request, options)) {
        judged.waited(clock.monotonicMs() - askedMs);
        this.#take(name, messages, queue, judged);
        await this.#untilSpace(queue);
        askedMs = clock.monotonicMs();
      }
      this.#answered++;
      if (follow) throw new GrpcError("INTERNAL", "it ended what should go on");
    } catch (error) {
      if (clock.monotonicMs() - startMs > AGAIN_MS_MAX) this.#failures.delete(name);
      isLast = this.#failed(name, error);
    } finally {
      this.#merge.close(queue);
      this.#reading.delete(name);
      this.#wake.abort();
    }
    if (!follow || isLast) return;
    // A connection that is lost is made again, and told then; this is for one that stayed, or was back at once.
    const times = this.#failures.get(name)?.times ?? 0;
    await clock.sleep(Math.min(AGAIN_MS_MIN * 2 ** times, AGAIN_MS_MAX), this.#signal);
    if (!this.#signal.aborted && link.state === "connected") this.#read(link, this.#again(name));
  }

  /** @throws {NodeFault} the node sends what it should not */
  #take(name: string, messages: readonly Uint8Array[], queue: NodeQueue, judged: NodeAnswer): void {
    const { clock } = this.#parts, arrivedMs = clock.monotonicMs();
    const memory = this.#memoryOf(name);
    for (const response of messages) {
      const head = judged.take(response, clock.nowMs());
      // Without a time, by its mask, a flow has the place in which it came.
      const unixMs = head.unixMs ?? (this.#request.follow ? clock.nowMs() : memory.newestMs ?? -Infinity);
      if (!memory.take(head, unixMs)) continue;
      queue.push({ bytes: head.bytes, unixMs, arrivedMs });
    }
    this.#wake.abort();
  }

  /** Whether the node is not to be asked again: it refused the request, or is at fault. */
  #failed(name: string, error: unknown): boolean {
    if (this.#signal.aborted) return true;
    const { follow } = this.#request, status = error instanceof GrpcError ? error.status : "INTERNAL";
    const isRefused = status === "INVALID_ARGUMENT", isFault = error instanceof NodeFault;
    if (isRefused) this.#refused = error as GrpcError;
    if (isFault) {
      this.#atFault.add(name);
      this.#parts.faults.increment({ node: name });
      this.#parts.log.warn("Node is at fault and left out of a request", {
        node: name,
        reason: error.message,
      });
    }
    const text = `${name}: ${errorText(error)}${isFault ? "; it is left out of this request" : ""}`;
    const before = this.#failures.get(name);
    this.#failures.set(name, { text, times: (before?.times ?? -1) + 1 });
    // Where it goes on, the link tells the end of a connection; and once is enough.
    if (follow && (status === "UNAVAILABLE" || before?.text === text)) return isRefused || isFault;
    this.#tell(status === "UNAVAILABLE" ? "NODE_UNAVAILABLE" : "NODE_ERROR", [name], text);
    return isRefused || isFault;
  }

  async #untilSpace(queue: NodeQueue): Promise<void> {
    while (this.#merge.isFull(queue) && !this.#signal.aborted) {
      await untilAborted(AbortSignal.any([this.#space.signal, this.#signal]));
    }
  }

  #tell(state_change: NodeState, node_names: string[], message = ""): void {
    const { nodeName, clock } = this.#parts, nowMs = clock.nowMs();
    if (this.#events.length >= EVENTS_MAX) this.#events.shift();
    this.#events.push(GetFlowsResponse.encode({
      node_status: { state_change, node_names, message },
      node_name: nodeName,
      time: timestampOf(nowMs),
    }));
    this.#wake.abort();
  }
}
