/** Parts of this folder's tests. @module */
import { MetricsRegistry } from "@weir/common";
import { GrpcServer } from "@weir/grpc";
import type { FlowRing } from "../flow_ring.ts";
import { Losses } from "../losses.ts";
import type { SeenFlow } from "../seen_flow.ts";
import { AgentEvents } from "./agent_events.ts";
import { Namespaces } from "./namespaces.ts";
import { observerMethods } from "./observer.ts";

/** Serves the Observer of a node of which nothing is known but its flows. */
export function observerServer(ring: FlowRing<SeenFlow>, metrics = new MetricsRegistry()): GrpcServer {
  return new GrpcServer({
    metrics,
    methods: observerMethods({
      exporter: { ring, losses: new Losses(new MetricsRegistry()) },
      events: new AgentEvents({ nowMs: () => 0, later: () => {} }),
      namespaces: new Namespaces(() => 0),
      nodeName: "node-1",
      cluster: "default",
      uptimeMs: () => 1,
      address: () => "",
      isTls: false,
    }),
  });
}
