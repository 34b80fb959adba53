/** What scenarios change and ask of the cluster's services: policies, services, flows, counters. @module */
import { setTimeout as delay } from "node:timers/promises";
import { DatapathServiceList, MapDump } from "@weir/proto/datapath";
import type { Flow } from "@weir/proto/flow";
import {
  ApplyRequest as ServicesRequest,
  ApplyResponse as ServicesResponse,
  Service,
} from "@weir/proto/loadbalancer";
import { GetFlowsResponse } from "@weir/proto/observer";
import {
  ApplyRequest,
  ApplyResponse,
  DeleteRequest,
  Policy,
  WaitRequest,
  WaitResponse,
} from "@weir/proto/policy";
import type { WeirClient } from "@weir/client";
import { type Changes, type ClusterAccess, TargetError } from "./target.ts";

/** How long policies may take until every node has them. */
const IN_FORCE_MS_MAX = 60_000;
const WAIT_S = 5;
const FILE = "weir connectivity test";

/** Asks with a client that is closed afterwards. */
export async function asking<T>(client: WeirClient, ask: (client: WeirClient) => Promise<T>): Promise<T> {
  try {
    return await ask(client);
  } finally {
    client.close();
  }
}

/** Changes the services' own state: where nobody else says what they are to have. */
export class DirectChanges implements Changes {
  constructor(readonly access: ClusterAccess) {}

  async applyPolicies(manifest: string): Promise<void> {
    await asking(this.access.client("policy-engine"), async (client) => {
      const { policyRevision } = await client.call("/v1/policies:apply", {
        request: { message: ApplyRequest, value: { manifest, file: FILE } },
        response: ApplyResponse,
      });
      await waitInForce(client, policyRevision);
    });
  }

  async deletePolicies(manifest: string): Promise<void> {
    await asking(this.access.client("policy-engine"), async (client) => {
      const { policyRevision } = await client.call("/v1/policies:delete", {
        request: { message: DeleteRequest, value: { manifest, file: FILE } },
        response: ApplyResponse,
      });
      await waitInForce(client, policyRevision);
    });
  }

  async sweepPolicies(prefix: string): Promise<void> {
    await asking(this.access.client("policy-engine"), async (client) => {
      const policies = client.collection("policies", Policy);
      const { items } = await policies.list();
      const left = items.filter(({ namespace, policyName }) =>
        namespace.startsWith(prefix) || (namespace === "" && policyName.startsWith(prefix))
      );
      for (const { name } of left) await policies.delete(name);
    });
  }

  async changeServices(verb: "apply" | "delete", manifest: string): Promise<void> {
    await asking(
      this.access.client("load-balancer"),
      (client) =>
        client.call(`/v1/services:${verb}`, {
          request: { message: ServicesRequest, value: { manifest, file: FILE } },
          response: ServicesResponse,
        }),
    );
  }
}

/** Waits until every node has a revision of the policies in force; 0: the newest. @throws {TargetError} it has not, in time */
export async function waitInForce(client: WeirClient, policyRevision: number): Promise<void> {
  const endMs = performance.now() + IN_FORCE_MS_MAX;
  while (true) {
    const { inForce, behind } = await client.call("/v1/policies:wait", {
      request: { message: WaitRequest, value: { policyRevision, timeoutS: WAIT_S } },
      response: WaitResponse,
    });
    if (inForce) return;
    if (performance.now() > endMs) {
      const who = behind.map(({ node, error }) => `${node}${error === "" ? "" : ` (${error})`}`).join(", ");
      throw new TargetError(
        `Cannot put the policies in force within ${IN_FORCE_MS_MAX / 1000} s: behind are ${who}`,
      );
    }
  }
}

/** How long nodes may take until they serve what the load balancer has. */
const SERVED_MS_MAX = 15_000;

/**
 * Waits until a node serves services by as many backends of each family, or for {@link SERVED_MS_MAX}: what is asked then is what the
 * scenarios are about.
 */
export async function servedAt(
  access: ClusterAccess,
  node: string,
  namespace: string,
  backends: Readonly<Record<string, number>>,
): Promise<void> {
  const endMs = performance.now() + SERVED_MS_MAX;
  await asking(access.client("datapath", node), async (client) => {
    while (performance.now() < endMs) {
      const { items } = await client.call("/v1/services", { method: "GET", response: DatapathServiceList });
      const late = Object.entries(backends).some(([name, count]) =>
        !items.some((one) => {
          const families = new Set(one.frontends.map(({ address }) => address.includes(":")));
          return one.name.startsWith(`${namespace}/${name}:`) &&
            (one.status?.activeBackends ?? 0) >= count * families.size;
        })
      );
      if (!late) return;
      await delay(100);
    }
  });
}

/** Services of a namespace by name, once those with backends have as many as they are to have. */
export async function settledServices(
  access: ClusterAccess,
  namespace: string,
  backends: Readonly<Record<string, number>>,
  msMax: number,
): Promise<Map<string, Service>> {
  const endMs = performance.now() + msMax;
  return await asking(access.client("load-balancer"), async (client) => {
    while (true) {
      const { items } = await client.collection("services", Service).list();
      const own = new Map(
        items.filter((one) => one.namespace === namespace).map((one) => [one.serviceName, one]),
      );
      const late = Object.entries(backends).filter(([name, count]) => {
        const one = own.get(name);
        return one?.activeBackends !== count || (one.type === "LoadBalancer" && one.externalIps.length === 0);
      });
      if (late.length === 0) return own;
      if (performance.now() > endMs) {
        const [[name, count]] = late;
        throw new TargetError(
          `Cannot begin: service ${namespace}/${name} has ${
            own.get(name)?.activeBackends ?? 0
          } active backends, expected ${count}, and addresses`,
        );
      }
      await delay(100);
    }
  });
}

/** Flows that a node saw since then with one of these addresses, oldest first. */
export async function flowsOf(
  access: ClusterAccess,
  node: string,
  { sinceMs, addresses }: { sinceMs: number; addresses: readonly string[] },
): Promise<Flow[]> {
  const query = { since: [new Date(sinceMs).toISOString()], ip: addresses, watch: false };
  return await asking(access.client("flow-exporter", node), async (client) => {
    const flows: Flow[] = [];
    for await (const { flow } of client.stream("/v1/flows", GetFlowsResponse, { query })) {
      if (flow !== undefined) flows.push(flow);
    }
    return flows;
  });
}

/** Dropped packets of a node by reason and direction. */
export async function dropsOf(access: ClusterAccess, node: string): Promise<Map<string, number>> {
  const { rows } = await asking(
    access.client("datapath", node),
    (client) => client.call("/v1/maps/metrics", { method: "GET", response: MapDump }),
  );
  return new Map(
    rows.filter(({ fields }) => fields.name !== "FORWARDED")
      .map(({ fields }) => [`${fields.name} ${fields.direction}`, Number(fields.packets)]),
  );
}
