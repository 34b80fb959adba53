/**
 * Where flows of the ring go beside readers, and how: one follower for all of them, which takes at most a third of the processor's time
 * of this process, so that taking events from the datapath is not held up. What it could not take in time is lost to the sinks, and
 * they are told how much.
 * @module
 */
import type { Clock } from "@weir/common";
import type { Flow } from "@weir/proto/flow";
import type { FlowRing } from "../flow_ring.ts";

/** A taker of flows. Neither call waits or throws: what there is no room for is counted. */
export interface FlowSink {
  offer(flow: Flow): void;
  /** `count` flows were overwritten in the ring before they could be taken. */
  lost(count: number): void;
}

/** Flows that are taken between two looks at the rest of the world: some milliseconds of work. */
const BATCH_FLOWS = 64;
/** Flows gather for so long where they are few: a write for many costs what one for one does. */
const GATHER_MS = 100;
/** Pause after work, in times of the work. */
const PAUSE_OF_SPENT = 2;

/** Hands every flow from now on to the sinks, until `signal` aborts. */
export async function pumpFlows(
  ring: FlowRing<{ readonly flow: Flow; readonly isTraffic?: boolean }>,
  sinks: () => Iterable<FlowSink>,
  { clock, signal }: { clock: Pick<Clock, "monotonicMs" | "sleep">; signal: AbortSignal },
): Promise<void> {
  for await (const batch of ring.follow(signal, { batchMax: BATCH_FLOWS })) {
    const startMs = clock.monotonicMs();
    for (const read of batch) {
      if ("lost" in read) { for (const sink of sinks()) sink.lost(read.lost); }
      else if (!read.flow.isTraffic) { for (const sink of sinks()) sink.offer(read.flow.flow); }
    }
    const spentMs = clock.monotonicMs() - startMs;
    const pauseMs = PAUSE_OF_SPENT * spentMs;
    await clock.sleep(batch.length < BATCH_FLOWS ? Math.max(GATHER_MS, pauseMs) : pauseMs, signal);
  }
}
