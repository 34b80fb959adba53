/**
 * The load balancer's own table beside the stored objects: what belongs to one service alone. Its key is what keeps two
 * writers on one database from giving out one id, address or node port twice.
 * @module
 */
import { sql } from "kysely";
import type { Assignment } from "@weir/proto/loadbalancer";
import type { Migration, StoreTransaction } from "@weir/common/state";
import type { ServiceSpec } from "./model.ts";

/** Names of the stored collections. */
export const SOURCES = "lb-sources";
export const NOTES = "lb-notes";
export const ASSIGNMENTS = "lb-assignments";
export const PODS = "lb-pods";
export const POOLS = "lb-pools";
export const OVERRIDES = "lb-overrides";

/** Steps of the schema, append-only. */
export const MIGRATIONS: readonly Migration[] = [{
  name: "load-balancer-1",
  async up(tx) {
    await sql`create table weir_lb_claim (claim text primary key, owner text not null)`.execute(tx);
  },
}];

/** Brings the claims of a service from one assignment to another. */
export async function writeClaims(
  store: StoreTransaction,
  owner: string,
  before: Set<string>,
  after: Set<string>,
): Promise<void> {
  for (const claim of before) {
    if (after.has(claim)) continue;
    await sql`delete from weir_lb_claim where claim = ${claim} and owner = ${owner}`.execute(store.tx);
  }
  for (const claim of after) {
    if (before.has(claim)) continue;
    await sql`insert into weir_lb_claim (claim, owner) values (${claim}, ${owner})`.execute(store.tx);
  }
}

/** What an assignment holds alone. Addresses that were asked for by hand, or are shared, may be somebody else's too. */
export function claimsOf(assignment: Assignment | undefined, spec: ServiceSpec | undefined): Set<string> {
  const claims = new Set<string>();
  for (const { id, key, nodePort } of assignment?.ports ?? []) {
    claims.add(`id:${id}`);
    if (nodePort !== 0) claims.add(`nodeport:${nodePort}/${key.slice(key.indexOf("/") + 1)}`);
  }
  const { healthCheckNodePort = 0 } = assignment ?? {};
  if (healthCheckNodePort !== 0) claims.add(`nodeport:${healthCheckNodePort}/TCP`);
  for (const address of assignment?.clusterIps ?? []) {
    if (!spec?.clusterIps?.includes(address)) claims.add(`clusterip:${address}`);
  }
  if (spec?.sharingKey === "") {
    for (const address of assignment?.loadBalancerIps ?? []) claims.add(`pool:${address}`);
  }
  return claims;
}
