/** Every metric by the name that enables it. @module */
import { dns, http, httpV2 } from "./application_handlers.ts";
import type { Handler } from "./handler.ts";
import type { MetricName } from "./option_words.ts";
import { drop, flow, flowsToWorld, icmp, policy, portDistribution, sctp, tcp } from "./packet_handlers.ts";

/** What counts, by name of `--hubble-metrics`. */
export const HANDLERS: Readonly<Record<MetricName, Handler>> = {
  dns,
  drop,
  flow,
  "flows-to-world": flowsToWorld,
  http,
  httpV2,
  icmp,
  policy,
  "port-distribution": portDistribution,
  sctp,
  tcp,
};
