/**
 * {@link NodeApi} and {@link ClusterApi} over the services' sockets.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { WeirClient } from "@weir/client";
import { ProblemError, retry } from "@weir/common";
import { MapDump } from "@weir/proto/datapath";
import { Endpoint } from "@weir/proto/endpoint";
import { Node } from "@weir/proto/identity";
import { ApplyRequest, ApplyResponse, Pod, Service } from "@weir/proto/loadbalancer";
import { Policy, WaitRequest, WaitResponse } from "@weir/proto/policy";
import type { ClusterApi, NodeApi } from "./apis.ts";
import { serviceSocket } from "./paths.ts";
import { within } from "./within.ts";

/** How long a removed endpoint may take to be gone. */
const DELETE_MS_MAX = 10_000;
/** Codes of a call that nobody answered. */
const NO_ANSWER = new Set(["UNREACHABLE", "DEADLINE_EXCEEDED"]);
/** How long one call may take, and all tries of it together. */
const CALL_MS_MAX = 10_000;
const PATIENCE_MS = 50_000;
/** Longest wait for policies of one call, in seconds: shorter than its deadline. */
const POLICY_WAIT_S_MAX = 5;

/** The endpoint manager and the datapath of an instance. */
export function nodeApi(instance: string): NodeApi {
  const client = new WeirClient({ socket: serviceSocket(instance, "endpoint-manager") });
  const datapath = new WeirClient({ socket: serviceSocket(instance, "datapath") });
  const endpoints = client.collection("endpoints", Endpoint);
  return {
    // A PUT may be repeated: an endpoint manager that hangs is started anew within less than this.
    putEndpoint: (endpoint) => patiently(() => endpoints.put(endpoint.name, endpoint)),
    async deleteEndpoint(name) {
      await patiently(() => endpoints.delete(name));
      const deadlineMs = Date.now() + DELETE_MS_MAX;
      while (await endpoints.get(name) !== undefined) {
        if (Date.now() > deadlineMs) {
          throw new Error(`endpoint ${name} is still there after ${DELETE_MS_MAX / 1000} s`);
        }
        await delay(30);
      }
    },
    listEndpoints: async () => (await endpoints.list()).items,
    async listIpcache() {
      const { rows } = await datapath.call("/v1/maps/ipcache", { method: "GET", response: MapDump });
      return new Map(rows.map(({ fields }) => [fields.prefix, Number(fields.identity)]));
    },
  };
}

/** Tries again while nobody answers, and for so long at most. */
async function patiently(action: () => Promise<unknown>): Promise<void> {
  await retry(() => within(action(), CALL_MS_MAX), {
    delayMsMax: 1000,
    signal: AbortSignal.timeout(PATIENCE_MS),
    isRetryable: (error) => !(error instanceof ProblemError) || NO_ANSWER.has(error.code),
  });
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
    async waitForPolicies(timeoutMs) {
      const endMs = performance.now() + timeoutMs;
      let policyRevision = 0;
      while (true) {
        const leftMs = endMs - performance.now();
        const timeoutS = Math.min(POLICY_WAIT_S_MAX, Math.max(0, leftMs / 1000));
        const answer = await engine.call("/v1/policies:wait", {
          request: { message: WaitRequest, value: { policyRevision, timeoutS } },
          response: WaitResponse,
        });
        if (answer.inForce) return [];
        if (leftMs <= 0) return answer.behind.map(({ node }) => node);
        policyRevision = answer.policyRevision;
      }
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
