/**
 * The socket at which the L7 proxy hands over records: one route, and nothing else that could be asked there.
 * @module
 */
import {
  ApiServer,
  type Clock,
  errorText,
  type Health,
  type Listener,
  listenUnix,
  type Logger,
  type MetricsRegistry,
} from "@weir/common";
import { L7RecordBatch } from "@weir/proto/l7";
import type { FlowExporter } from "../flow_exporter.ts";

/** What {@link serveRecords} needs. */
export interface RecordsParts {
  readonly socket: string;
  readonly exporter: Pick<FlowExporter, "takeRecords">;
  readonly health: Health;
  readonly metrics: MetricsRegistry;
  readonly log: Logger;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

const RETRY_MS = 500;
const ANSWER = L7RecordBatch.create({});

/** The route as a handler, for tests too. */
export function recordsApi(exporter: RecordsParts["exporter"], log?: Logger): ApiServer {
  const api = new ApiServer({ name: "flow-exporter", log });
  api.action({
    path: "/v1/l7records:add",
    request: L7RecordBatch,
    response: L7RecordBatch,
    handle: (batch) => {
      exporter.takeRecords(batch);
      return ANSWER;
    },
    description: "Records of requests, from the L7 proxy",
  });
  return api;
}

/** Listens until `signal` aborts; readiness says while it cannot. */
export async function serveRecords(
  { socket, exporter, health, log, clock, signal }: RecordsParts,
): Promise<void> {
  const api = recordsApi(exporter, log);
  while (!signal.aborted) {
    let listener: Listener;
    try {
      listener = await listenUnix(api.fetch, socket);
    } catch (error) {
      health.waitFor("l7-records", errorText(error));
      await clock.sleep(RETRY_MS, signal);
      continue;
    }
    health.ok("l7-records", socket);
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener("abort", () => resolve(), { once: true });
    });
    await listener.shutdown(300);
  }
}
