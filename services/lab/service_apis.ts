/**
 * {@link NodeApi} and {@link ClusterApi} over the services' sockets.
 *
 * @module
 */
import { WeirClient } from "@weir/client";
import { Endpoint } from "@weir/proto/endpoint";
import { Node } from "@weir/proto/identity";
import { ApplyRequest, ApplyResponse, Pod, Service } from "@weir/proto/loadbalancer";
import { MapState, Policy } from "@weir/proto/policy";
import type { ClusterApi, NodeApi } from "./apis.ts";
import { serviceSocket } from "./paths.ts";

/** How long a removed endpoint may take to be gone. */
const DELETE_MS_MAX = 10_000;

/** The endpoint manager of an instance. */
export function nodeApi(instance: string): NodeApi {
  const client = new WeirClient({ socket: serviceSocket(instance, "endpoint-manager") });
  const endpoints = client.collection("endpoints", Endpoint);
  return {
    putEndpoint: async (endpoint) => void await endpoints.put(endpoint.name, endpoint),
    async deleteEndpoint(name) {
      await endpoints.delete(name);
      const deadlineMs = Date.now() + DELETE_MS_MAX;
      while (await endpoints.get(name) !== undefined) {
        if (Date.now() > deadlineMs) {
          throw new Error(`endpoint ${name} is still there after ${DELETE_MS_MAX / 1000} s`);
        }
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
    },
    listEndpoints: async () => (await endpoints.list()).items,
  };
}

/** The cluster services of an instance. */
export function clusterApi(instance: string): ClusterApi {
  const engine = new WeirClient({ socket: serviceSocket(instance, "policy-engine") });
  const allocator = new WeirClient({ socket: serviceSocket(instance, "identity-allocator") });
  const balancer = new WeirClient({ socket: serviceSocket(instance, "load-balancer") });
  const policies = engine.collection("policies", Policy);
  const pods = balancer.collection("pods", Pod);
  return {
    getPolicy: (name) => policies.get(name),
    putPolicy: (policy) => policies.put(policy.name, policy),
    deletePolicy: (name) => policies.delete(name),
    async policyRevisions() {
      const { items } = await engine.collection("mapstates", MapState).list();
      return new Map(items.map((state) => [state.identity, state.policyRevision]));
    },
    async changeServices(verb, manifest, file) {
      const { items } = await balancer.call(`/v1/services:${verb}`, {
        request: { message: ApplyRequest, value: { manifest, file } },
        response: ApplyResponse,
      });
      return items;
    },
    listServices: async () => (await balancer.collection("services", Service).list()).items,
    putPod: async (pod) => void await pods.put(pod.name, pod),
    deletePod: async (name) => void await pods.delete(name),
    listNodes: async () => (await allocator.collection("nodes", Node).list()).items,
  };
}
