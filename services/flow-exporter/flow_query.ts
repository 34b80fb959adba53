/**
 * Which flows a request asks for, and the stream that answers it. Semantics are Hubble's GetFlows.
 * @module
 */
import { compileFilters, loadEngines } from "@weir/flow-filter";
import { ProblemError } from "@weir/common";
import type { Flow, LostEventSource } from "@weir/proto/flow";
import { FlowPosition, type GetFlowsRequest, GetFlowsResponse } from "@weir/proto/observer";
import type { Init } from "@weir/proto";
import { timestampOf } from "@weir/proto/timestamp";
import type { FlowRing } from "./flow_ring.ts";
import type { Loss, Losses } from "./losses.ts";
import { Pace } from "./pace.ts";

/** Flows that are sent where the request names no number and does not follow. */
export const FLOWS_DEFAULT = 20;
const BATCH_FLOWS = 256;
/** After so many flows that were not asked for a stream says how far it is, to who asked for that. */
const UNTOLD_MAX = 256;
type Time = { seconds: number; nanos: number };

const before = (a: Time, b: Time) => a.seconds < b.seconds || (a.seconds === b.seconds && a.nanos < b.nanos);
const ZERO: Time = { seconds: 0, nanos: 0 };

/** One answer of a stream: a flow, with its place for who asked for that, or a message without one. */
export type FlowAnswer<F> =
  | { readonly seen: F; readonly position?: FlowPosition }
  | { readonly said: GetFlowsResponse };

/** The message of an answer. */
export function messageOf(answer: FlowAnswer<{ readonly flow: Flow }>): GetFlowsResponse {
  if ("said" in answer) return answer.said;
  const { seen: { flow }, position } = answer;
  return GetFlowsResponse.create({ flow, node_name: flow.node_name, time: flow.time, position });
}

/** Answers a request from the ring, oldest first; with `follow` it goes on until `signal` aborts. @throws {ProblemError} before it begins */
export async function answerFlows<F extends { readonly flow: Flow; readonly isTraffic?: boolean }>(
  ring: FlowRing<F>,
  request: Init<GetFlowsRequest>,
  context: { nodeName: string; signal: AbortSignal; losses?: Pick<Losses, "follow">; nowMs?: () => number },
): Promise<AsyncGenerator<FlowAnswer<F>[]>> {
  if (request.first && request.follow) {
    throw new ProblemError("FLOWS_REQUEST_INVALID", {
      status: 400,
      detail: "Cannot follow the first flows: first and follow exclude each other",
      action: "Leave one of them out",
    });
  }
  const { whitelist = [], blacklist = [] } = request;
  const passes = compileFilters(whitelist, blacklist, await loadEngines([...whitelist, ...blacklist]));
  const since = request.since && { ...ZERO, ...request.since } as Time;
  const until = request.until && !request.follow ? { ...ZERO, ...request.until } as Time : undefined;
  const inTime = (flow: Flow) =>
    (!since || !before(flow.time ?? ZERO, since)) && (!until || !before(until, flow.time ?? ZERO));
  const isAsked = (seen: F) => request.traffic === true || !seen.isTraffic;
  const matches = (seen: F) => isAsked(seen) && inTime(seen.flow) && passes(seen.flow);
  const pace = new Pace();
  const number = request.number ||
    (request.follow ? (since ? ring.size : 0) : since || until ? ring.size : FLOWS_DEFAULT);
  const { after } = request, isTold = request.follow === true && after !== undefined;
  const isAgain = isTold && Number(after.ring) > 0;
  const positionAt = (next: number) => isTold ? FlowPosition.create({ ring: ring.id, next }) : undefined;
  return stream();

  /** Indexes of the first `count` that match, or of the last ones; lets others work meanwhile, whatever the filters cost. */
  async function pick(flows: readonly F[], count: number, isForward: boolean): Promise<number[]> {
    const found: number[] = [];
    for (let n = 0; n < flows.length; n++) {
      if (found.length >= count || context.signal.aborted) break;
      const index = isForward ? n : flows.length - 1 - n;
      if (matches(flows[index])) found.push(index);
      if (pace.isOver) await pace.rest();
    }
    return isForward ? found : found.reverse();
  }

  /** Where who follows begins: now, or where an earlier answer ended; all of this ring where that was of another one. */
  function begin(): number {
    if (!isAgain) return ring.next;
    const next = Number(after!.next);
    return after!.ring === ring.id && next <= ring.next ? next : ring.next - ring.length;
  }

  async function* stream(): AsyncGenerator<FlowAnswer<F>[]> {
    const from = begin();
    const following = request.follow ? ring.follow(context.signal, { from }) : undefined;
    const held = number === 0 || isAgain ? [] : ring.held(), oldest = ring.next - held.length;
    // `since` takes the start, the number then limits from there.
    const isForward = request.first || since !== undefined;
    const history = held.length === 0 ? [] : await pick(held, number, isForward);
    let losses: Loss[] = [];
    // Told with the next flows, whatever is asked for: where events are lost there are some.
    if (following) context.losses?.follow((more) => losses = losses.concat(more), context.signal);
    for (let i = 0; i < history.length; i += BATCH_FLOWS) {
      yield history.slice(i, i + BATCH_FLOWS).map((index) => ({
        seen: held[index],
        position: positionAt(oldest + index + 1),
      }));
    }
    if (!following) return;
    const nowMs = context.nowMs ?? Date.now, overwritten = new Overwritten(context.nodeName);
    const alone = (next: number): FlowAnswer<F> => ({
      said: GetFlowsResponse.create({
        node_name: context.nodeName,
        time: timestampOf(nowMs()),
        position: positionAt(next),
      }),
    });
    let told = from;
    if (isTold) yield [alone(from)];
    for await (const batch of following) {
      const answers: FlowAnswer<F>[] = losses.map((loss) => ({
        said: lossAnswer(loss, context.nodeName, nowMs()),
      }));
      losses = [];
      let next = told;
      for (const read of batch) {
        if ("lost" in read) overwritten.add(read.lost, nowMs());
        else {
          next = read.number + 1;
          if (isAsked(read.flow) && passes(read.flow.flow)) {
            answers.push({ seen: read.flow, position: positionAt(next) });
            told = next;
          }
        }
        if (pace.isOver) await pace.rest();
      }
      const lost = overwritten.take(nowMs());
      if (lost !== undefined) answers.unshift({ said: lost });
      // Flows that were not asked for are none that a later answer should call lost.
      if (isTold && next - told >= UNTOLD_MAX) {
        answers.push(alone(next));
        told = next;
      }
      if (answers.length > 0) yield answers;
    }
  }
}

/** Says whose events the kernel's ring had no room for. */
function lossAnswer({ holder, lost }: Loss, nodeName: string, nowMs: number): GetFlowsResponse {
  const source: LostEventSource = "PERF_EVENT_RING_BUFFER";
  return GetFlowsResponse.create({
    lost_events: { source, num_events_lost: lost, holder },
    node_name: nodeName,
    time: timestampOf(nowMs),
  });
}

/** Flows that were overwritten under a reader: told at most once a second, with all that went since. */
class Overwritten {
  #count = 0;
  #firstMs = 0;
  #lastMs = 0;
  #toldMs = -Infinity;
  readonly #nodeName: string;

  constructor(nodeName: string) {
    this.#nodeName = nodeName;
  }

  add(count: number, nowMs: number): void {
    if (this.#count === 0) this.#firstMs = nowMs;
    this.#lastMs = nowMs;
    this.#count += count;
  }

  take(nowMs: number): GetFlowsResponse | undefined {
    // A clock that was put back does not silence it.
    if (this.#count === 0 || Math.abs(nowMs - this.#toldMs) < LOST_EVERY_MS) return undefined;
    this.#toldMs = nowMs;
    const source: LostEventSource = "HUBBLE_RING_BUFFER";
    const lost = { source, num_events_lost: this.#count };
    this.#count = 0;
    return GetFlowsResponse.create({
      lost_events: { ...lost, first: timestampOf(this.#firstMs), last: timestampOf(this.#lastMs) },
      node_name: this.#nodeName,
      time: timestampOf(nowMs),
    });
  }
}
const LOST_EVERY_MS = 1000;
