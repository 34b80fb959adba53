/**
 * The HTTP face of the flow exporter.
 * @module
 */
import { type ApiServer, decodeBody, encodingOfContent, readBody } from "@weir/common";
import { MapRow } from "@weir/proto/datapath";
import { GetFlowsRequest, GetFlowsResponse, ServerStatusResponse } from "@weir/proto/observer";
import { recordFields } from "./event_record.ts";
import type { FlowExporter } from "./flow_exporter.ts";
import { answerFlows } from "./flow_query.ts";
import { readEventTypes, readFlowsQuery } from "./query_parameters.ts";

const REQUEST_BYTES_MAX = 1024 * 1024;

/**
 * Adds the routes: `GET /v1/flows` with the filters of `hubble observe` as parameters, `POST /v1/flows:query` with a
 * GetFlowsRequest; both stream GetFlowsResponse, and go on with `watch=true` or `follow`. `GET /v1/status`.
 */
export function mountFlowExporter(api: ApiServer, exporter: FlowExporter, nodeName: string): void {
  const startMs = performance.now();
  api.stream({
    path: "/v1/flows",
    message: GetFlowsResponse,
    source: ({ query, signal }) =>
      answerFlows(exporter.ring, readFlowsQuery(query, Date.now()), {
        nodeName,
        signal,
        losses: exporter.losses,
      }),
    description: "Flows of this node: filters as in hubble observe; watch=true follows",
  });
  api.app.post("/v1/flows:query", async (c) => {
    const bytes = await readBody(c.req.raw, REQUEST_BYTES_MAX);
    const request = decodeBody(GetFlowsRequest, bytes, encodingOfContent(c.req.header("content-type")));
    return api.streamAnswer(
      c,
      GetFlowsResponse,
      ({ signal }) => answerFlows(exporter.ring, request, { nodeName, signal, losses: exporter.losses }),
    );
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
    handle: () => {
      const { ring } = exporter;
      const uptimeNs = Math.round((performance.now() - startMs) * 1e6);
      return ServerStatusResponse.create({
        num_flows: ring.length,
        max_flows: ring.size,
        seen_flows: ring.seen,
        uptime_ns: uptimeNs,
        flows_rate: ring.seen / Math.max(1, uptimeNs / 1e9),
      });
    },
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
