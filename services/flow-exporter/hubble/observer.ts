/**
 * Hubble's Observer of one node, by gRPC path: what the `hubble` command, Hubble Relay and the backend of Hubble UI ask for.
 * @module
 */
import { untilAborted, WEIR_VERSION } from "@weir/common";
import { type GrpcMethods, streaming, streamingBytes, unary } from "@weir/grpc";
import {
  GetAgentEventsRequest,
  GetAgentEventsResponse,
  GetDebugEventsRequest,
  GetDebugEventsResponse,
  GetFlowsRequest,
  GetNamespacesRequest,
  GetNamespacesResponse,
  GetNodesRequest,
  GetNodesResponse,
  ServerStatusRequest,
  ServerStatusResponse,
} from "@weir/proto/observer";
import type { FlowExporter } from "../flow_exporter.ts";
import { answerFlows } from "../flow_query.ts";
import { maskInvalid } from "@weir/flow-filter";
import type { AgentEvents } from "./agent_events.ts";
import { FlowBytes } from "./flow_bytes.ts";
import type { Namespaces } from "./namespaces.ts";

/** Name of the service for grpc.health.v1: clients ask for this one. */
export const OBSERVER_HEALTH = "hubble.server.Observer";

/** What the methods answer from. */
export interface ObserverParts {
  readonly exporter: Pick<FlowExporter, "ring" | "losses">;
  readonly events: AgentEvents;
  readonly namespaces: Namespaces;
  readonly nodeName: string;
  readonly cluster: string;
  /** Monotonic. */
  readonly uptimeMs: () => number;
  /** Address of this server and whether it speaks TLS, "" when it has none but a unix socket. */
  readonly address: () => string;
  readonly isTls: boolean;
}

/** The status of a node's flows. */
export function serverStatus(
  { ring }: Pick<FlowExporter, "ring">,
  uptimeMs: number,
): ServerStatusResponse {
  return ServerStatusResponse.create({
    num_flows: Math.min(ring.length, ring.seen),
    max_flows: ring.size,
    seen_flows: ring.seen,
    uptime_ns: Math.round(uptimeMs * 1e6),
    flows_rate: ring.seen / Math.max(1, uptimeMs / 1000),
    version: `weir ${WEIR_VERSION}`,
  });
}

/** Methods by path. */
export function observerMethods(parts: ObserverParts): GrpcMethods {
  const { exporter, nodeName, cluster } = parts;
  const fullName = cluster === "" ? nodeName : `${cluster}/${nodeName}`;
  const bytes = new FlowBytes();
  return {
    "/observer.Observer/GetFlows": streamingBytes(GetFlowsRequest, async function* (request, { signal }) {
      const mask = readMask(bytes, request);
      const answers = await answerFlows(exporter.ring, request, {
        nodeName: fullName,
        signal,
        losses: exporter.losses,
      });
      for await (const batch of answers) yield batch.map((answer) => bytes.of(answer, mask));
    }),
    "/observer.Observer/GetAgentEvents": streaming(
      GetAgentEventsRequest,
      GetAgentEventsResponse,
      (request, { signal }) => parts.events.answer(request, { nodeName: fullName, signal }),
    ),
    // The datapath makes none: who follows waits, as at a node where nothing is debugged.
    "/observer.Observer/GetDebugEvents": streaming(
      GetDebugEventsRequest,
      GetDebugEventsResponse,
      async function* ({ follow }, { signal }) {
        if (follow) await untilAborted(signal);
        yield [];
      },
    ),
    "/observer.Observer/ServerStatus": unary(
      ServerStatusRequest,
      ServerStatusResponse,
      () => serverStatus(exporter, parts.uptimeMs()),
    ),
    "/observer.Observer/GetNamespaces": unary(
      GetNamespacesRequest,
      GetNamespacesResponse,
      () => GetNamespacesResponse.create({ namespaces: parts.namespaces.list(cluster) }),
    ),
    // Of one node: so clients do without a relay.
    "/observer.Observer/GetNodes": unary(GetNodesRequest, GetNodesResponse, () => {
      const { num_flows, max_flows, seen_flows, uptime_ns, version } = serverStatus(
        exporter,
        parts.uptimeMs(),
      );
      return GetNodesResponse.create({
        nodes: [{
          name: fullName,
          version,
          address: parts.address(),
          state: "NODE_CONNECTED",
          tls: { enabled: parts.isTls },
          num_flows,
          max_flows,
          seen_flows,
          uptime_ns,
        }],
      });
    }),
  };
}

function readMask(bytes: FlowBytes, { field_mask }: GetFlowsRequest): ReturnType<FlowBytes["maskOf"]> {
  try {
    return bytes.maskOf(field_mask?.paths);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw maskInvalid(error);
  }
}
