/** The operator within the service: started, shown in readiness and metrics. @module */
import type { ApiServer, Clock } from "@weir/common";
import type { ApiClient } from "../api/mod.ts";
import type { FeedTargets } from "./feeds.ts";
import { Operator } from "./operator.ts";

/** What {@link runOperator} needs. */
export interface RunOperatorOptions {
  client: ApiClient;
  /** Of the service that the operator is a part of, whose collections it reads too. */
  api: ApiServer;
  targets: Omit<FeedTargets, "kubernetes">;
  /** Of Weir's own objects, the Lease among them. */
  namespace: string;
  /** Name of this machine, for people who look who leads. */
  node: string;
  singleEndpoints: boolean;
  clock: Clock;
}

const LOOK_MS = 1000;
const HEALTH = "operator";
/** Faults that readiness names. */
const FAULTS_SHOWN = 3;

/** Starts the operator; `stop()` ends it, and gives its Lease back. */
export function runOperator(options: RunOperatorOptions): { stop(): Promise<void> } {
  const { client, api, targets, namespace, node, singleEndpoints, clock } = options;
  const { metrics, health, log } = api;
  const writes = metrics.counter(
    "weir_kubernetes_operator_writes_total",
    "Requests of the operator that write, by resource, verb and whether they were granted",
  );
  const operator = new Operator(client, {
    targets: { ...targets, kubernetes: { handler: api.fetch } },
    namespace,
    holder: `${node}_${crypto.randomUUID()}`,
    singleEndpoints,
    clock,
    log,
    onWrite: (resource, verb, error) =>
      writes.increment({ resource, verb, result: error === undefined ? "granted" : "failed" }),
  });
  metrics.gauge("weir_kubernetes_operator_leads", "1 while this operator leads")
    .collect(() => operator.isLeading ? 1 : 0);
  metrics.gauge("weir_kubernetes_operator_waiting", "Objects that the operator is to look at, by resource")
    .collect(() => Object.entries(operator.waiting).map(([resource, count]) => [{ resource }, count]));
  metrics.gauge("weir_kubernetes_operator_faults", "Objects that the operator could not write")
    .collect(() => operator.faults.size);
  const stop = new AbortController();
  const look = async () => {
    while (!stop.signal.aborted) {
      health.ok(HEALTH, textOf(operator));
      await clock.sleep(LOOK_MS, stop.signal);
    }
  };
  operator.start();
  const looking = look();
  return {
    async stop() {
      stop.abort();
      await Promise.all([operator.stop(), looking]);
    },
  };
}

/** What people are told: who leads, and what cannot be written. */
function textOf({ isLeading, leader, error, faults }: Operator): string {
  const lead = isLeading ? "leads" : leader === "" ? "nobody is known to lead" : `${leader} leads`;
  const failed = error === undefined ? "" : `; the lease: ${error.message}`;
  const named = [...faults].slice(0, FAULTS_SHOWN).map(([what, fault]) => `${what}: ${fault.error.message}`);
  const more = faults.size > named.length ? ` and ${faults.size - named.length} more` : "";
  return lead + failed + (named.length === 0 ? "" : `; not written: ${named.join(", ")}${more}`);
}
