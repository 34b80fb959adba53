/** Made flows, and what metrics say of them. @module */
import type { Init } from "@weir/proto";
import { Flow } from "@weir/proto/flow";
import { countedFlow } from "./counted_flow.ts";
import { HubbleMetrics } from "./hubble_metrics.ts";

/** A clock that is put forward by hand. */
export class HandClock {
  ms = 0;
  monotonicMs(): number {
    return this.ms;
  }
}

/** Metrics by Hubble's option. */
export function metricsOf(
  options: string,
  more: { clock?: HandClock; seriesMax?: number } = {},
): HubbleMetrics {
  return new HubbleMetrics({ options, clock: new HandClock(), ...more });
}

/** A trace of a TCP packet from shop/cart to shop/db:5432, unless `more` says otherwise. */
export function madeFlow(more: Init<Flow> = {}): Flow {
  return Flow.create({
    verdict: "FORWARDED",
    event_type: { type: 4, sub_type: 0 },
    traffic_direction: "INGRESS",
    is_reply: { value: false },
    IP: { source: "10.0.1.5", destination: "10.0.2.7", ipVersion: "IPv4" },
    l4: { TCP: { source_port: 40000, destination_port: 5432, flags: { SYN: true } } },
    source: {
      identity: 300,
      namespace: "shop",
      pod_name: "cart-7d4b9c6f5b-x2x4z",
      labels: ["k8s:app=cart", "k8s:io.kubernetes.pod.namespace=shop"],
    },
    destination: { identity: 400, namespace: "shop", pod_name: "db-0", labels: ["k8s:app=db"] },
    ...more,
  });
}

/** The series of `hubble_*` after these flows, without those of lost events. */
export function seriesOf(metrics: HubbleMetrics, ...flows: Flow[]): string[] {
  for (const flow of flows) metrics.count(countedFlow(flow));
  return metrics.render().filter((line) =>
    line.startsWith("hubble_") && !line.startsWith("hubble_lost_events_total")
  ).sort();
}
