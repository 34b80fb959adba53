/** A lab of two nodes with the pods of all cases, whose policies are changed from case to case through the real policy engine. @module */
import assert from "node:assert/strict";
import { WeirClient } from "@weir/client";
import { readManifests } from "@weir/policy-engine";
import { MapDump } from "@weir/proto/datapath";
import { DROP } from "@weir/proto/numbers";
import { serviceSocket } from "../../services/lab/paths.ts";
import { clusterApi, nodeApi } from "../../services/lab/service_apis.ts";
import { topology } from "../../services/lab/topology.ts";
import type { Manifest } from "../conformance/oracle.ts";
import type { Model } from "../conformance/testdata.ts";
import { Lab } from "../e2e/weir.ts";
import type { ProbedPod } from "./prober.ts";

const NODES = 2;
/** How long policies may take to be in force: as long as a slow machine takes. */
const IN_FORCE_MS_MAX = 120_000;

/** What the engine is given of a policy. */
interface Policy {
  readonly name: string;
  readonly kind: string;
  readonly namespace: string;
  readonly policyName: string;
  readonly manifest: string;
}

/** Reasons of drops by policy: no rule allows it, a rule denies it. */
const BY_POLICY: readonly number[] = [DROP.POLICY, DROP.POLICY_DENY];

/** The lab. */
export class Bed {
  readonly lab: Lab;
  readonly #topology: ReturnType<typeof topology>;
  readonly #applied = new Map<string, string>();

  constructor(name: string, readonly models: readonly Model[]) {
    this.lab = new Lab(name);
    this.#topology = topology(name, NODES);
  }

  /** Brings it up. @returns its pods */
  async up(): Promise<ProbedPod[]> {
    const namespaces = Object.assign({}, ...this.models.map((model) => model.namespaces));
    const pods = this.models.flatMap((model) => model.pods);
    const documents: unknown[] = Object.entries(namespaces).map(([name, labels]) => ({
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name, labels },
    }));
    for (const [index, { namespace, name, labels, ports }] of pods.entries()) {
      documents.push({
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name, namespace, labels: labels ?? {} },
        spec: {
          nodeName: `node-${1 + index % NODES}`,
          containers: [{
            name: "main",
            ports: ports.filter((port) => port.name !== "").map(({ name, port, protocol }) => ({
              name,
              containerPort: port,
              protocol,
            })),
          }],
        },
      });
    }
    await this.lab.up(NODES, documents.map((document) => JSON.stringify(document)).join("\n---\n"));
    await this.lab.inForce();
    const endpoints = new Map<string, { ipv4: string; ipv6: string }>();
    for (const { instance } of this.#topology.nodes) {
      for (const { name, status } of await nodeApi(instance).listEndpoints()) {
        if (status !== undefined) endpoints.set(name, status);
      }
    }
    return pods.map(({ namespace, name }) => {
      const { ipv4, ipv6 } = endpoints.get(`${namespace}/${name}`)!;
      const netns = `/run/netns/weir-${this.lab.name}--pod-${namespace}.${name}`;
      return { name: `${namespace}/${name}`, netns, ipv4, ipv6 };
    });
  }

  /** Makes these all the policies there are, and waits until they are in force on every node. */
  async apply(manifests: readonly Manifest[]): Promise<void> {
    const engine = clusterApi(this.#topology.controlPlane), wanted = new Map<string, Policy>();
    for (const manifest of manifests) {
      const { policies, faults } = readManifests(JSON.stringify(manifest));
      assert.deepEqual(faults, [], JSON.stringify(manifest));
      for (const { name, kind, namespace, policyName, manifest: text } of policies) {
        wanted.set(name, { name, kind, namespace, policyName, manifest: text });
      }
    }
    const gone = [...this.#applied.keys()].filter((name) => !wanted.has(name));
    const changed = [...wanted.values()].filter(({ name, manifest }) => this.#applied.get(name) !== manifest);
    await Promise.all([
      ...gone.map((name) => engine.deletePolicy(name)),
      ...changed.map((policy) => engine.putPolicy(policy)),
    ]);
    gone.forEach((name) => this.#applied.delete(name));
    changed.forEach(({ name, manifest }) => this.#applied.set(name, manifest));
    assert.deepEqual(await engine.waitForPolicies(IN_FORCE_MS_MAX), [], "policies are not in force");
  }

  /** Packets that both nodes have dropped by policy. */
  async dropped(): Promise<number> {
    const counts = await Promise.all(this.#topology.nodes.map(async ({ instance }) => {
      const client = new WeirClient({ socket: serviceSocket(instance, "datapath") });
      const { rows } = await client.call("/v1/maps/metrics", { method: "GET", response: MapDump });
      return rows.filter(({ fields }) => BY_POLICY.includes(Number(fields.reason)))
        .reduce((sum, { fields }) => sum + Number(fields.packets), 0);
    }));
    return counts.reduce((sum, count) => sum + count, 0);
  }
}
