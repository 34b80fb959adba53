/**
 * What people are told of a service beside its tables: what it does not have, and why.
 * @module
 */
import { hostPort, IpAddress } from "@weir/common";
import type { Condition } from "@weir/proto/loadbalancer";
import type { AssignmentTable } from "./assignment_table.ts";
import type { FrontendClaims } from "./frontend_claims.ts";
import type { ServiceSpec, SliceSpec } from "./model.ts";
import { servesNodePort, type ServiceEntry } from "./service_entry.ts";

/** Conditions of a service; those that are fulfilled are shown where they say something. */
export function conditionsOf(
  entry: ServiceEntry,
  claims: FrontendClaims,
  assignments: AssignmentTable,
  slices: ReadonlyMap<string, SliceSpec>,
): Condition[] {
  const { spec } = entry;
  if (spec === undefined || entry.ignored !== "") return [];
  return [
    ...conflicts(entry, claims),
    ...poolCondition(entry, spec, assignments),
    ...unsupported(entry, spec),
    ...backendCondition(entry, spec, slices),
  ];
}

function conflicts(entry: ServiceEntry, claims: FrontendClaims): Condition[] {
  const found: Condition[] = [];
  for (const port of entry.ports.values()) {
    for (const { claim } of entry.wantedFrontends(port.spec)) {
      const holder = claims.holder(claim)?.owner;
      if (holder === undefined || holder === entry.name) continue;
      const at = hostPort(claim.address || "*", claim.port);
      found.push({
        type: "Conflict",
        ok: false,
        reason: "AddressPortTaken",
        message:
          `${at}/${claim.protocol} belongs to ${holder}, which is older; ${entry.name} gets it when ${holder} gives it up`,
      });
    }
  }
  return found;
}

function poolCondition(entry: ServiceEntry, spec: ServiceSpec, assignments: AssignmentTable): Condition[] {
  if (spec.type !== "LoadBalancer") return [];
  const has = entry.assignment?.loadBalancerIps ?? [];
  const bad = (reason: string, message: string): Condition[] => [
    { type: "AddressPool", ok: false, reason, message },
  ];
  if (!assignments.config.loadBalancerClasses.includes(spec.loadBalancerClass)) {
    return [{
      type: "AddressPool",
      ok: true,
      reason: "OtherClass",
      message:
        `loadBalancerClass ${spec.loadBalancerClass} is another implementation's: no address is given here`,
    }];
  }
  const missing = spec.requestedIps.filter((address) => !has.includes(address));
  if (missing.length > 0) {
    const why = missing.map((address) => {
      const holder = assignments.holderOf(address, entry.name, spec);
      if (holder !== undefined) {
        return `${address} belongs to ${holder} (services that are to share it need one weir.io/lb-sharing-key and different ports)`;
      }
      return `${address} is in no pool that serves this service`;
    });
    return bad("RequestedAddressUnavailable", why.join("; "));
  }
  if (spec.requestedIps.length > 0) return given(has);
  const families = entry.families.filter((family) =>
    !has.some((text) => IpAddress.parse(text).family === family)
  );
  if (families.length === 0) return given(has);
  const names = families.map((family) => `IPv${family}`).join(" and ");
  const pools = assignments.pools.poolsFor(spec);
  const usable = pools.filter(({ ranges }) => ranges.some((range) => families.includes(range.family)));
  // One family of two is what a pool of one family gives.
  if (usable.length === 0 && has.length > 0) return given(has);
  if (usable.length === 0) {
    if (spec.ingressIps.length > 0) return [];
    return bad(
      "NoPool",
      `no address pool serves this service with ${names} (${assignments.pools.size} pools): it gets an address when one appears`,
    );
  }
  return bad(
    "PoolExhausted",
    `every ${names} address of ${
      usable.map(({ name }) => name).join(", ")
    } is taken: it gets one when one is given back`,
  );
}

function given(addresses: readonly string[]): Condition[] {
  return [{ type: "AddressPool", ok: true, reason: "Given", message: addresses.join(", ") }];
}

function unsupported(entry: ServiceEntry, spec: ServiceSpec): Condition[] {
  const found: Condition[] = [];
  const say = (reason: string, message: string) =>
    found.push({ type: "Unsupported", ok: false, reason, message });
  for (const { key, nodePort } of entry.assignment?.ports ?? []) {
    const port = entry.ports.get(key)?.spec;
    if (port === undefined || port.protocol !== "SCTP") continue;
    if (nodePort !== 0 && !servesNodePort(port, nodePort)) {
      say(
        "SctpNodePort",
        `node port ${nodePort} of ${key} is not served: SCTP ports are not rewritten, and the target port is another`,
      );
    }
    if (typeof port.targetPort === "string") {
      say("SctpTargetPort", `of ${key} only backends whose port ${port.targetPort} is ${port.port} are used`);
    }
  }
  const own = entry.families;
  const foreign = [...spec.externalIps, ...spec.ingressIps].filter((text) =>
    !own.includes(IpAddress.parse(text).family)
  );
  if (foreign.length > 0 && own.length > 0) {
    say("OtherFamily", `${foreign.join(", ")} not served: the service is IPv${own.join(" and IPv")} only`);
  }
  return found;
}

function backendCondition(
  entry: ServiceEntry,
  spec: ServiceSpec,
  slices: ReadonlyMap<string, SliceSpec>,
): Condition[] {
  const without = [...entry.ports.values()].filter((port) => port.active === 0);
  if (without.length === 0 || entry.ports.size === 0) return [];
  const names = without.map(({ spec }) => spec.name || `${spec.port}/${spec.protocol}`).join(", ");
  const bySlices = spec.selector === undefined && entry.slices.size > 0;
  const why = entry.source?.hostPorts
    ? "the pod has no address yet"
    : bySlices
    ? whyNoneOfSlices(entry, spec, slices)
    : whyNone(entry, spec);
  return [{
    type: "Backends",
    ok: false,
    reason: bySlices ? REASON_SLICES : "NoActiveBackends",
    message: `${names}: ${why}`,
  }];
}

/** Backends are said by EndpointSlices, and none of them is one of this port. */
export const REASON_SLICES = "NoEndpointOfSlices";

function whyNoneOfSlices(
  entry: ServiceEntry,
  { ports }: ServiceSpec,
  slices: ReadonlyMap<string, SliceSpec>,
): string {
  const wanted = ports.map(({ name, port }) => name === "" ? `port ${port}` : `a port named ${name}`);
  const own = [...entry.slices].flatMap((name) => slices.get(name) ?? []);
  const groups = own.flatMap((slice) => slice.groups);
  const has = new Set(
    groups.flatMap((group) =>
      group.ports.map(({ name, port, protocol }) => `${name === "" ? "no name" : name} (${port}/${protocol})`)
    ),
  );
  const names = own.map(({ name }) => name).join(", ");
  const endpoints = groups.flatMap((group) => group.endpoints);
  if (endpoints.length === 0) return `its EndpointSlices (${names}) name nobody`;
  if (!endpoints.some(({ state }) => state === "ACTIVE")) {
    return `no endpoint of its EndpointSlices (${names}) is ready`;
  }
  return `no ready endpoint of its EndpointSlices (${names}) has ${wanted.join(" or ")}: they have ${
    [...has].join(", ") || "none"
  }`;
}

function whyNone(entry: ServiceEntry, { selector, namespace }: ServiceSpec): string {
  if (selector === undefined) {
    return "it has no selector: an EndpointSlice or Endpoints of its name must say who";
  }
  const labels = Object.entries(selector).map(([key, value]) => `${key}=${value}`).join(",");
  const [first, ...more] = entry.excluded.values();
  if (first !== undefined) {
    const others = more.length === 0 ? "" : ` (and ${more.length} more)`;
    return `${first.pod} has the labels ${labels}, and ${first.reason}${others}`;
  }
  if ([...entry.ports.values()].some((port) => port.all > 0)) return "every backend is ending or held back";
  return `no pod of namespace ${namespace} has the labels ${labels}`;
}
