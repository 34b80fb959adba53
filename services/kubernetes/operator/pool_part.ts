/** Status of address pools: whether they are valid and used, and what they have left. @module */
import type { ObjectFault } from "@weir/proto/kubernetes";
import type { AddressPool } from "@weir/proto/loadbalancer";
import { RESOURCES } from "../api/mod.ts";
import { digestOf } from "../held_objects.ts";
import { isOurPool, prunePool } from "../reflectors/pools.ts";
import {
  applyStatus,
  changedConditions,
  type Condition,
  conditionsOf,
  type StoredCondition,
} from "./conditions.ts";
import { faultOfVersion, type ObservedVersion, observedVersion, validCondition } from "./object_version.ts";
import type { Part, PartContext } from "./part.ts";
import type { Pace } from "./write_queue.ts";
import { Writer } from "./writer.ts";

const PACE: Pace = { ratePerS: 20, burst: 40, parallelMax: 4, delayMs: 300 };
const resource = RESOURCES.CiliumLoadBalancerIPPool;

interface ObservedPool extends ObservedVersion {
  conditions: StoredCondition[];
}

/** Writes whether pools are valid, and how many addresses they have left. */
export function poolPart(context: PartContext): Part {
  const { feeds: { pools, objectFaults }, client, term, clock } = context;
  const writer = new Writer<ObservedPool>(client, term, {
    ...context,
    resource,
    prune: (object) => ({ ...observedVersion(object, prunePool(object)), conditions: conditionsOf(object) }),
    plan: (key, observed) => {
      if (observed === undefined) return undefined;
      const objectFault = objectFaults.get(`${resource.kind}/${key}`);
      const wanted = poolConditions({ observed, pool: pools.get(key), objectFault });
      const now = new Date(clock.nowMs()).toISOString();
      const conditions = wanted && changedConditions(observed.conditions, wanted, now);
      return conditions && applyStatus(client, resource, observed, { conditions });
    },
    pace: PACE,
  });
  pools.listen((key) => writer.changed(key));
  objectFaults.listen((name) => {
    if (name.startsWith(`${resource.kind}/`)) writer.changed(name.slice(resource.kind.length + 1));
  });
  return { writers: [writer], needs: [pools, objectFaults] };
}

/**
 * What is said of a pool; undefined while nothing is known of this version of it. Counts stand in the messages, for people and
 * for what reads them elsewhere; they are of the version that the load balancer has.
 */
export function poolConditions({ observed, pool, objectFault }: {
  observed: Pick<ObservedVersion, "generation" | "digest">;
  pool: AddressPool | undefined;
  objectFault: ObjectFault | undefined;
}): Condition[] | undefined {
  // One that people put here under the same name says nothing of this one.
  const held = pool !== undefined && isOurPool(pool) ? pool : undefined;
  const fault = faultOfVersion(observed, objectFault);
  const conditions: Condition[] = [];
  if (fault !== undefined) conditions.push(fault);
  else if (held !== undefined && digestOf(held.manifest) === observed.digest) {
    conditions.push(validCondition(observed, "True", "Valid", "The load balancer has it"));
  } else return undefined;
  const { status } = held ?? {};
  if (status === undefined) return conditions;
  const conflict = status.conditions.find(({ type, ok }) => type === "Conflict" && !ok);
  const { total, used } = status;
  conditions.push(
    {
      type: "cilium.io/PoolConflict",
      status: conflict === undefined ? "False" : "True",
      reason: conflict === undefined ? "NoConflict" : conflict.reason,
      message: conflict?.message ?? "",
    },
    count("IPsTotal", total),
    count("IPsAvailable", Math.max(0, total - used)),
    count("IPsUsed", used),
  );
  return conditions;
}

function count(name: string, value: number): Condition {
  return { type: `cilium.io/${name}`, status: "Unknown", reason: "Counted", message: String(value) };
}
