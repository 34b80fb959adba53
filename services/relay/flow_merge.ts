/**
 * Brings the flows of many nodes in the order of time. Two ways: what is over is merged whole, what goes on by a fixed clock.
 *
 *     history   goes out:  the oldest of all, once every node that has not ended has one to compare
 *     follow    goes out:  what was held for HOLD_MS, and before it whatever is older: no node holds up another
 *
 * Pure: times come as arguments.
 * @module
 */

/** Flows that are followed are held for so long, so that those of other nodes find their place before them. */
export const HOLD_MS = 500;
/** What all nodes of one request may have in memory. */
const ITEMS_MAX = 16_384;
const BYTES_MAX = 16 << 20;
const BATCH = 256;

/** One response of a node. */
export interface MergeItem {
  readonly bytes: Uint8Array;
  /** Unix milliseconds, by which it is ordered. */
  readonly unixMs: number;
  /** When it came, on the monotonic clock. */
  readonly arrivedMs: number;
}

/** What came from one node and has not gone out. */
export class NodeQueue {
  isOver = false;
  #items: MergeItem[] = [];
  #next = 0;
  #bytes = 0;

  get length(): number {
    return this.#items.length - this.#next;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get head(): MergeItem | undefined {
    return this.#items[this.#next];
  }

  push(item: MergeItem): void {
    this.#items.push(item);
    this.#bytes += item.bytes.length;
  }

  shift(): MergeItem {
    const item = this.#items[this.#next++];
    this.#bytes -= item.bytes.length;
    if (this.#next > 1024 && this.#next * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#next);
      this.#next = 0;
    }
    return item;
  }

  /** Takes out those that `goes` names. */
  take(goes: (item: MergeItem) => boolean): MergeItem[] {
    const taken: MergeItem[] = [], left: MergeItem[] = [];
    for (const item of this.#items.slice(this.#next)) (goes(item) ? taken : left).push(item);
    this.#items = left;
    this.#next = 0;
    this.#bytes -= taken.reduce((sum, { bytes }) => sum + bytes.length, 0);
    return taken;
  }

  items(): MergeItem[] {
    return this.#items.slice(this.#next);
  }
}

/** The queues of one request. */
export class FlowMerge {
  readonly #queues = new Set<NodeQueue>();

  /** A place for another node, or again for one that is back. */
  open(queue: NodeQueue = new NodeQueue()): NodeQueue {
    queue.isOver = false;
    this.#queues.add(queue);
    return queue;
  }

  /** No more comes from it; what is there still goes out. */
  close(queue: NodeQueue): void {
    queue.isOver = true;
    if (queue.length === 0) this.#queues.delete(queue);
  }

  /** Every node has ended and everything is out. */
  get isEmpty(): boolean {
    return this.#queues.size === 0;
  }

  get hasItems(): boolean {
    return [...this.#queues].some(({ length }) => length > 0);
  }

  /** A node's share of the memory is used up: nothing more is read from it until some has gone out. */
  isFull({ length, bytes }: NodeQueue): boolean {
    const nodes = Math.max(1, this.#queues.size);
    return length >= Math.max(BATCH, ITEMS_MAX / nodes) || bytes >= BYTES_MAX / nodes;
  }

  /** The oldest of all, as far as they are known to be: a batch of it; empty: wait. */
  takeOldest(): Uint8Array[] {
    const out: Uint8Array[] = [], heap: NodeQueue[] = [];
    for (const queue of this.#queues) {
      if (queue.length > 0) push(heap, queue);
      else if (!queue.isOver) return out;
      else this.#queues.delete(queue);
    }
    while (heap.length > 0 && out.length < BATCH) {
      const queue = heap[0];
      out.push(queue.shift().bytes);
      if (queue.length > 0) sink(heap);
      else if (!queue.isOver) break;
      else {
        this.#queues.delete(queue);
        const last = heap.pop()!;
        if (heap.length > 0) {
          heap[0] = last;
          sink(heap);
        }
      }
    }
    return out;
  }

  /**
   * What is due at this time, in order, with all that is older. A node that is full gives its older half before its time, and that
   * and the clock of a node that is ahead draw nothing of the others along: their order stays.
   */
  takeDue(nowMs: number, nowUnixMs: number): Uint8Array[] {
    let last = -Infinity;
    const full = new Map<NodeQueue, number>();
    for (const queue of this.#queues) {
      const items = queue.items();
      for (const { arrivedMs, unixMs } of items) {
        if (nowMs - arrivedMs >= HOLD_MS && unixMs <= nowUnixMs) last = Math.max(last, unixMs);
      }
      if (this.isFull(queue)) {
        const times = items.map(({ unixMs }) => unixMs).sort((a, b) => a - b);
        full.set(queue, times[times.length >> 1]);
      }
    }
    const due: MergeItem[] = [];
    for (const queue of this.#queues) {
      const half = full.get(queue) ?? -Infinity;
      const taken = queue.take(({ arrivedMs, unixMs }) =>
        unixMs <= last || unixMs <= half || nowMs - arrivedMs >= HOLD_MS
      );
      for (const item of taken) due.push(item);
      if (queue.isOver && queue.length === 0) this.#queues.delete(queue);
    }
    return due.sort((a, b) => a.unixMs - b.unixMs).map(({ bytes }) => bytes);
  }
}

const before = (a: NodeQueue, b: NodeQueue) => a.head!.unixMs < b.head!.unixMs;

function push(heap: NodeQueue[], queue: NodeQueue): void {
  let at = heap.push(queue) - 1;
  while (at > 0) {
    const above = (at - 1) >> 1;
    if (!before(heap[at], heap[above])) return;
    [heap[at], heap[above]] = [heap[above], heap[at]];
    at = above;
  }
}

/** Puts the first in its place again. */
function sink(heap: NodeQueue[]): void {
  for (let at = 0;;) {
    let first = at;
    for (const below of [2 * at + 1, 2 * at + 2]) {
      if (below < heap.length && before(heap[below], heap[first])) first = below;
    }
    if (first === at) return;
    [heap[at], heap[first]] = [heap[first], heap[at]];
    at = first;
  }
}
