/** Policies and services as objects of the API server. @module */
import { setTimeout as delay } from "node:timers/promises";
import { Policy } from "@weir/proto/policy";
import { type ApiClient, keyOf, type KubernetesObject, type Resource, RESOURCES } from "@weir/kubernetes/api";
import { asking, waitInForce } from "../cluster.ts";
import { type Changes, type ClusterAccess, TargetError } from "../target.ts";

/** How long the policy engine may take until it has heard of what the API server has. */
const HEARD_MS_MAX = 60_000, POLL_MS = 100;

/** Makes and deletes objects, and waits until Weir has heard of them. */
export class KubernetesChanges implements Changes {
  constructor(readonly client: ApiClient, readonly access: ClusterAccess) {}

  async applyPolicies(manifest: string): Promise<void> {
    const objects = objectsOf(manifest);
    for (const object of objects) await this.client.apply(resourceOf(object), object, { force: true });
    await this.#inForce((files) => objects.find((object) => !files.has(fileOf(object))), "does not have");
  }

  async deletePolicies(manifest: string): Promise<void> {
    const objects = objectsOf(manifest);
    for (const object of objects) await this.#delete(object);
    await this.#inForce((files) => objects.find((object) => files.has(fileOf(object))), "still has");
  }

  async sweepPolicies(prefix: string): Promise<void> {
    const kinds = [
      RESOURCES.CiliumClusterwideNetworkPolicy,
      RESOURCES.CiliumNetworkPolicy,
      RESOURCES.NetworkPolicy,
    ];
    for (const resource of kinds) {
      for await (const { items } of this.client.pages(resource, { metadataOnly: true })) {
        const left = items.filter(({ metadata: { namespace, name } }) =>
          (namespace ?? name).startsWith(prefix)
        );
        for (const { metadata } of left) await this.#delete({ kind: resource.kind, metadata });
      }
    }
  }

  async changeServices(verb: "apply" | "delete", manifest: string): Promise<void> {
    for (const object of objectsOf(manifest)) {
      if (verb === "delete") await this.#delete(object);
      else await this.client.apply(resourceOf(object), object, { force: true });
    }
  }

  async #delete(object: KubernetesObject): Promise<void> {
    const { name, namespace } = object.metadata;
    await this.client.delete(resourceOf(object), name, { namespace });
  }

  /** Waits until the policy engine has heard of a change and every node has it in force. @param late what is missing, or too much */
  async #inForce(
    late: (files: ReadonlySet<string>) => KubernetesObject | undefined,
    is: string,
  ): Promise<void> {
    const endMs = performance.now() + HEARD_MS_MAX;
    await asking(this.access.client("policy-engine"), async (client) => {
      while (true) {
        const { items } = await client.collection("policies", Policy).list();
        const object = late(new Set(items.map(({ file }) => file)));
        if (object === undefined) return await waitInForce(client, 0);
        if (performance.now() > endMs) {
          throw new TargetError(
            `The policy engine ${is} ${object.kind} ${keyOf(object)} after ${HEARD_MS_MAX / 1000} s`,
          );
        }
        await delay(POLL_MS);
      }
    });
  }
}

/** Where the policy engine says that an object came from. */
const fileOf = (object: KubernetesObject) => `kubernetes:${object.kind}/${keyOf(object)}`;

/** The objects of a manifest of ours: JSON, each a document. */
function objectsOf(manifest: string): KubernetesObject[] {
  return manifest.split("---\n").map((text) => JSON.parse(text));
}

function resourceOf({ kind = "" }: KubernetesObject): Resource {
  const found = (RESOURCES as Record<string, Resource>)[kind];
  if (found === undefined) throw new TargetError(`Cannot tell where objects of kind ${kind} are`);
  return found;
}
