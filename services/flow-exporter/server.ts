/**
 * The HTTP face of the flow exporter.
 * @module
 */
import { type ApiServer, decodeBody, encodingOfContent, readBody } from "@weir/common";
import type { Init } from "@weir/proto";
import { MapRow } from "@weir/proto/datapath";
import {
  GetAgentEventsResponse,
  GetFlowsRequest,
  GetFlowsResponse,
  ServerStatusResponse,
} from "@weir/proto/observer";
import type { AgentEvents } from "./hubble/agent_events.ts";
import { serverStatus } from "./hubble/observer.ts";
import { recordFields } from "./event_record.ts";
import type { FlowExporter } from "./flow_exporter.ts";
import { answerFlows, messageOf } from "./flow_query.ts";
import { readEventsQuery, readEventTypes, readFlowsQuery, readResponseMask } from "@weir/flow-filter";

const REQUEST_BYTES_MAX = 1024 * 1024;

/**
 * Adds the routes: `GET /v1/flows` with the filters of `hubble observe` as parameters, `POST /v1/flows:query` with a
 * GetFlowsRequest; both stream GetFlowsResponse, and go on with `watch=true` or `follow`. `GET /v1/agent-events`, `GET /v1/status`.
 */
export function mountFlowExporter(
  api: ApiServer,
  exporter: FlowExporter,
  { nodeName, events }: { nodeName: string; events: Pick<AgentEvents, "answer"> },
): void {
  const startMs = performance.now();
  // Read at once: a request that is wrong is refused, not a stream that ends.
  const messages = async (request: Init<GetFlowsRequest>, signal: AbortSignal) => {
    const mask = readResponseMask(request.field_mask?.paths);
    const answers = await answerFlows(exporter.ring, request, { nodeName, signal, losses: exporter.losses });
    return (async function* () {
      for await (const batch of answers) yield batch.map((answer) => mask(messageOf(answer)));
    })();
  };
  api.stream({
    path: "/v1/flows",
    message: GetFlowsResponse,
    source: ({ query, signal }) => messages(readFlowsQuery(query, Date.now()), signal),
    description: "Flows of this node: filters as in hubble observe; watch=true follows",
  });
  api.app.post("/v1/flows:query", async (c) => {
    const bytes = await readBody(c.req.raw, REQUEST_BYTES_MAX);
    const request = decodeBody(GetFlowsRequest, bytes, encodingOfContent(c.req.header("content-type")));
    return api.streamAnswer(
      c,
      GetFlowsResponse,
      ({ signal }) => messages(request, signal),
    );
  });
  api.stream({
    path: "/v1/agent-events",
    message: GetAgentEventsResponse,
    source: ({ query, signal }) => events.answer(readEventsQuery(query, Date.now()), { nodeName, signal }),
    description: "What happened on this node beside traffic; watch=true follows",
  });
  api.stream({
    path: "/v1/events",
    message: MapRow,
    source: ({ query, signal }) => rawEvents(exporter, readEventTypes(query.getAll("type")), signal),
    description: "Raw events of the datapath from now on, as columns",
  });
  api.action({
    method: "GET",
    path: "/v1/status",
    response: ServerStatusResponse,
    handle: () => serverStatus(exporter, performance.now() - startMs),
    description: "Flows held and seen",
  });
}

async function* rawEvents(
  exporter: FlowExporter,
  types: readonly string[],
  signal: AbortSignal,
): AsyncGenerator<MapRow[]> {
  for await (const batch of exporter.records.follow(signal)) {
    const rows: MapRow[] = [];
    for (const read of batch) {
      const fields = "lost" in read ? { type: "lost", count: `${read.lost}` } : recordFields(read.flow);
      if (fields && (types.length === 0 || types.includes(fields.type))) rows.push({ fields });
    }
    if (rows.length > 0) yield rows;
  }
}
