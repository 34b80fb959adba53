/** CiliumLoadBalancerIPPool into the load balancer: addresses for Services of type LoadBalancer. @module */
import type { WeirClient } from "@weir/client";
import { AddressPool } from "@weir/proto/loadbalancer";
import { KUBERNETES_FILE_MARK } from "@weir/common/manifest";
import { keyOf, type KubernetesObject } from "../api/object.ts";
import { apiVersionOf, RESOURCES } from "../api/resource.ts";
import { digestOf, type HeldOptions, HeldTarget } from "../held_objects.ts";
import type { WantedObject } from "../mirror.ts";
import { each, only } from "./fields.ts";
import { BATCH_MAX, callWithManifests } from "./services.ts";

const POOL = RESOURCES.CiliumLoadBalancerIPPool;
const SPEC_FIELDS = ["allowFirstLastIPs", "disabled", "serviceSelector"];
const BLOCK_FIELDS = ["cidr", "start", "stop"];

/** The pool as the load balancer gets it. */
export function prunePool(object: KubernetesObject): WantedObject {
  const { metadata: { uid = "", generation = 0 }, spec } = object;
  const text = manifestOf(object.metadata.name, {
    blocks: each(spec?.blocks, BLOCK_FIELDS),
    ...only(spec, SPEC_FIELDS),
  });
  return { kind: POOL.kind, key: keyOf(object), uid, generation, text, digest: digestOf(text) };
}

/** Whether the load balancer has the pool from Kubernetes. */
export function isOurPool({ file }: AddressPool): boolean {
  return file === KUBERNETES_FILE_MARK;
}

function manifestOf(name: string, spec: Record<string, unknown>): string {
  return JSON.stringify({ apiVersion: apiVersionOf(POOL), kind: POOL.kind, metadata: { name }, spec });
}

/** The load balancer's pools as a mirror's target. Names are the pools' own. */
export class PoolTarget extends HeldTarget<AddressPool> {
  readonly name = "load-balancer-pools";
  readonly batchMax = BATCH_MAX;

  constructor(client: WeirClient, options: HeldOptions) {
    super(client, {
      collection: "addresspools",
      message: AddressPool,
      heldOf: (pool) => ({ kind: isOurPool(pool) ? POOL.kind : "", digest: digestOf(pool.manifest) }),
    }, options);
  }

  async put(objects: readonly WantedObject[]): Promise<void> {
    await callWithManifests(this.client, "apply", objects.map(({ text }) => text));
  }

  async delete(objects: readonly { name: string }[]): Promise<void> {
    await callWithManifests(
      this.client,
      "delete",
      objects.map(({ name }) => manifestOf(name, { blocks: [] })),
    );
  }
}
