/**
 * Which flows a request asks for, and the stream that answers it. Semantics are Hubble's GetFlows.
 * @module
 */
import { ProblemError } from "@weir/common";
import type { Flow, LostEventSource } from "@weir/proto/flow";
import { type GetFlowsRequest, GetFlowsResponse } from "@weir/proto/observer";
import type { Init } from "@weir/proto";
import { compileFilters } from "./flow_filter.ts";
import type { FlowRing } from "./flow_ring.ts";
import type { Loss, Losses } from "./losses.ts";

/** Flows that are sent where the request names no number and does not follow. */
export const FLOWS_DEFAULT = 20;
const BATCH_FLOWS = 256;
type Time = { seconds: number; nanos: number };

const before = (a: Time, b: Time) => a.seconds < b.seconds || (a.seconds === b.seconds && a.nanos < b.nanos);
const ZERO: Time = { seconds: 0, nanos: 0 };

const answerOf = (flow: Flow): GetFlowsResponse =>
  GetFlowsResponse.create({ flow, node_name: flow.node_name, time: flow.time });

/** Answers a request from the ring, oldest first; with `follow` it goes on until `signal` aborts. @throws {ProblemError} */
export function answerFlows(
  ring: FlowRing<{ readonly flow: Flow }>,
  request: Init<GetFlowsRequest>,
  context: { nodeName: string; signal: AbortSignal; losses?: Pick<Losses, "follow"> },
): AsyncGenerator<GetFlowsResponse[]> {
  if (request.first && request.follow) {
    throw new ProblemError("FLOWS_REQUEST_INVALID", {
      status: 400,
      detail: "Cannot follow the first flows: first and follow exclude each other",
      action: "Leave one of them out",
    });
  }
  const passes = compileFilters(
    (request.whitelist ?? []) as Init<GetFlowsRequest>["whitelist"] as never,
    (request.blacklist ?? []) as never,
  );
  const since = request.since && { ...ZERO, ...request.since } as Time;
  const until = request.until && !request.follow ? { ...ZERO, ...request.until } as Time : undefined;
  const inTime = (flow: Flow) =>
    (!since || !before(flow.time ?? ZERO, since)) && (!until || !before(until, flow.time ?? ZERO));
  const matches = ({ flow }: { readonly flow: Flow }) => inTime(flow) && passes(flow);
  const number = request.number ||
    (request.follow ? (since ? ring.size : 0) : since || until ? ring.size : FLOWS_DEFAULT);
  return stream();

  async function* stream(): AsyncGenerator<GetFlowsResponse[]> {
    // `since` takes the start, the number then limits from there.
    const history = number === 0
      ? []
      : request.first || since
      ? ring.first(number, matches)
      : ring.last(number, matches);
    const following = request.follow ? ring.follow(context.signal) : undefined;
    let losses: Loss[] = [];
    // Told with the next flows, whatever is asked for: where events are lost there are some.
    if (following) context.losses?.follow((more) => losses = losses.concat(more), context.signal);
    for (let i = 0; i < history.length; i += BATCH_FLOWS) {
      yield history.slice(i, i + BATCH_FLOWS).map(({ flow }) => answerOf(flow));
    }
    if (!following) return;
    for await (const batch of following) {
      const answers = losses.map((loss) => lossAnswer(loss, context.nodeName));
      losses = [];
      for (const read of batch) {
        if ("lost" in read) answers.push(lostAnswer(read.lost, context.nodeName));
        else if (passes(read.flow.flow)) answers.push(answerOf(read.flow.flow));
      }
      if (answers.length > 0) yield answers;
    }
  }
}

/** Says whose events the kernel's ring had no room for. */
function lossAnswer({ holder, lost }: Loss, nodeName: string): GetFlowsResponse {
  const source: LostEventSource = "PERF_EVENT_RING_BUFFER";
  const now = Date.now(), time = { seconds: Math.floor(now / 1000), nanos: (now % 1000) * 1e6 };
  return GetFlowsResponse.create({
    lost_events: { source, num_events_lost: lost, holder },
    node_name: nodeName,
    time,
  });
}

/** Says that flows were overwritten under the reader. */
function lostAnswer(count: number, nodeName: string): GetFlowsResponse {
  return GetFlowsResponse.create({
    lost_events: {
      source: "HUBBLE_RING_BUFFER" satisfies LostEventSource,
      num_events_lost: count,
    },
    node_name: nodeName,
  });
}
