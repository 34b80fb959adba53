/** CiliumPodIPPool into the identity allocator: named pools of pods' addresses, of which nodes get blocks. @module */
import type { WeirClient } from "@weir/client";
import { KUBERNETES_FILE_MARK } from "@weir/common/manifest";
import { PodPool } from "@weir/proto/identity";
import { keyOf, type KubernetesObject } from "../api/object.ts";
import { RESOURCES } from "../api/resource.ts";
import { digestOf, type HeldOptions, HeldTarget } from "../held_objects.ts";
import type { WantedObject } from "../mirror.ts";

const { kind } = RESOURCES.CiliumPodIPPool;
/** The pool that everybody has: here, the nodes' pod CIDRs, which nobody puts. */
const POOL_DEFAULT = "default";

/** A family of a pool, in Cilium's words. */
interface Family {
  cidrs?: string[];
  maskSize?: number;
}

/** The pool as the identity allocator gets it. @throws {Error} it says what is not honoured */
export function prunePodPool(object: KubernetesObject): WantedObject | undefined {
  const { metadata: { name, uid = "", generation = 0 }, spec } = object;
  if (name === POOL_DEFAULT) return undefined;
  if (spec?.podSelector !== undefined || spec?.namespaceSelector !== undefined) {
    throw new Error(
      `Cannot use pool ${name}: it selects pods by labels, expected none (pods and namespaces name it by the annotation ipam.cilium.io/ip-pool)`,
    );
  }
  const { ipv4 = {}, ipv6 = {} } = (spec ?? {}) as { ipv4?: Family; ipv6?: Family };
  const text = textOf({
    cidrsV4: ipv4.cidrs ?? [],
    lengthV4: ipv4.maskSize ?? 0,
    cidrsV6: ipv6.cidrs ?? [],
    lengthV6: ipv6.maskSize ?? 0,
  });
  return { kind, key: keyOf(object), uid, generation, text, digest: digestOf(text) };
}

function textOf({ cidrsV4, lengthV4, cidrsV6, lengthV6 }: Omit<PodPool, "name" | "file" | "status">): string {
  return JSON.stringify({ cidrsV4, lengthV4, cidrsV6, lengthV6 });
}

/** The identity allocator's pools as a mirror's target. Names are the pools' own. */
export class PodPoolTarget extends HeldTarget<PodPool> {
  readonly name = "identity-allocator-pools";
  // Each has a request of its own.
  readonly batchMax = 1;

  constructor(client: WeirClient, options: HeldOptions) {
    super(client, {
      collection: "podpools",
      message: PodPool,
      heldOf: (pool) => ({
        kind: pool.file === KUBERNETES_FILE_MARK ? kind : "",
        digest: digestOf(textOf(pool)),
      }),
    }, options);
  }

  async put(objects: readonly (WantedObject & { name: string })[]): Promise<void> {
    const pools = this.client.collection("podpools", PodPool);
    for (const { name, text } of objects) {
      await pools.put(name, { ...JSON.parse(text), file: KUBERNETES_FILE_MARK });
    }
  }

  async delete(objects: readonly { name: string }[]): Promise<void> {
    const pools = this.client.collection("podpools", PodPool);
    for (const { name } of objects) await pools.delete(name);
  }
}
