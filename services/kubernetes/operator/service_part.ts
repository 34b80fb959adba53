/** Status of Services: the addresses that the load balancer gave. @module */
import type { Service } from "@weir/proto/loadbalancer";
import { type KubernetesObject, RESOURCES } from "../api/mod.ts";
import {
  applyStatus,
  changedConditions,
  type Condition,
  conditionsOf,
  type StoredCondition,
} from "./conditions.ts";
import type { Part, PartContext } from "./part.ts";
import type { Pace, Write } from "./write_queue.ts";
import { ownsIngress } from "./ingress_owner.ts";
import { Writer } from "./writer.ts";

const PACE: Pace = { ratePerS: 20, burst: 40, parallelMax: 4, delayMs: 300 };
const POOL_CONDITION = "AddressPool";
/** Condition of a Service: whether it has what it asked for. */
const SATISFIED = "cilium.io/IPAMRequestSatisfied";

interface ObservedService {
  name: string;
  namespace?: string;
  uid?: string;
  /** Addresses in `status.loadBalancer.ingress`, sorted. */
  addresses: string[];
  /** Somebody else wrote the ingress. */
  isForeign: boolean;
  conditions: StoredCondition[];
}

/** Writes the addresses of Services. */
export function servicePart(context: PartContext): Part {
  const { feeds: { services }, client, term, clock } = context;
  const writer = new Writer<ObservedService>(client, term, {
    ...context,
    resource: RESOURCES.Service,
    prune: observedService,
    plan: (key, observed) => {
      const wanted = wantedService(services.get(key));
      if (observed === undefined || wanted === undefined) return undefined;
      return servicePlan(observed, wanted);
    },
    pace: PACE,
  });
  function servicePlan(observed: ObservedService, wanted: WantedService): Write | undefined {
    if (observed.isForeign) return undefined;
    const now = new Date(clock.nowMs()).toISOString();
    const changed = changedConditions(observed.conditions, wanted.conditions, now);
    const isSame = String(observed.addresses) === String(wanted.addresses);
    if (isSame && changed === undefined) return undefined;
    const conditions = changed ??
      observed.conditions.filter(({ type }) => wanted.conditions.some((one) => one.type === type));
    return applyStatus(client, RESOURCES.Service, observed, {
      ...(wanted.addresses.length === 0
        ? {}
        : { loadBalancer: { ingress: wanted.addresses.map((ip) => ({ ip })) } }),
      conditions,
    });
  }
  services.listen((key) => writer.changed(key));
  return { writers: [writer], needs: [services] };
}

interface WantedService {
  /** Sorted. */
  addresses: string[];
  conditions: Condition[];
}

/** What a Service's status is to say; undefined where that is another implementation's matter. */
export function wantedService(service: Service | undefined): WantedService | undefined {
  if (service?.type !== "LoadBalancer") return undefined;
  const pool = service.conditions.find(({ type }) => type === POOL_CONDITION);
  if (pool?.reason === "OtherClass") return undefined;
  const addresses = service.ports.flatMap(({ frontends }) =>
    frontends.filter(({ kind }) => kind === "LOAD_BALANCER").map(({ address }) => address)
  );
  const isGiven = pool?.ok ?? addresses.length > 0;
  return {
    addresses: [...new Set(addresses)].sort(),
    conditions: [{
      type: SATISFIED,
      status: isGiven ? "True" : "False",
      reason: isGiven ? "Satisfied" : pool?.reason || "NoAddress",
      message: pool?.message ?? "",
    }],
  };
}

/** What is kept of a Service; nothing of one that has no load balancer. */
function observedService(object: KubernetesObject): ObservedService | undefined {
  if (object.spec?.type !== "LoadBalancer") return undefined;
  const { name, namespace, uid, managedFields } = object.metadata;
  const ingress: unknown = object.status?.loadBalancer?.ingress;
  const all: { ip?: unknown }[] = Array.isArray(ingress) ? ingress : [];
  return {
    name,
    namespace,
    uid,
    addresses: all.map(({ ip }) => String(ip ?? "")).sort(),
    isForeign: all.length > 0 && !ownsIngress(managedFields),
    conditions: conditionsOf(object),
  };
}
