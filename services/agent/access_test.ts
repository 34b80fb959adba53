import { deepEqual, equal } from "node:assert/strict";
import { ApiServer, guardAccess, JOINT_WATCH_PATH, type Peer, setPeer } from "@weir/common";
import { Database } from "../common/state.ts";
import { createCertificateAuthority } from "../certificate-authority/mod.ts";
import { createIdentityAllocator } from "../identity-allocator/mod.ts";
import { createLoadBalancer } from "../load-balancer/mod.ts";
import { ApiClient, createKubernetesService } from "../kubernetes/mod.ts";
import { createPolicyEngine } from "../policy-engine/mod.ts";
import { WeirClient } from "@weir/client";
import { ACCESS, LOCAL_ONLY } from "./access.ts";

type Handler = (request: Request) => Promise<Response> | Response;

const NODE_1: Peer = { role: "node", node: "node-1" }, NODE_2: Peer = { role: "node", node: "node-2" };

/** The cluster's services in this process, each behind its rows. */
function services() {
  const database = () => new Database("sqlite::memory:");
  const allocator = createIdentityAllocator({ database: database() });
  const client = new WeirClient({ handler: allocator.api.fetch });
  const apis: Record<string, ApiServer> = {
    "certificate-authority": createCertificateAuthority({ database: database() }).api,
    "identity-allocator": allocator.api,
    "policy-engine": createPolicyEngine({ database: database(), allocator: client }).api,
    "load-balancer": createLoadBalancer({ database: database(), identityAllocator: client }).api,
    "kubernetes": createKubernetesService({
      client: new ApiClient({ server: "http://127.0.0.1:2", authorities: [] }),
      policyEngine: client,
      loadBalancer: client,
      identityAllocator: client,
      cluster: "default",
      namespace: "weir-system",
      nodeServiceAccount: "weir-node",
      api: new ApiServer({ name: "kubernetes" }),
    }).api,
  };
  return { allocator, apis };
}

async function routesOf(api: ApiServer): Promise<{ method: string; path: string }[]> {
  const answer = await api.fetch(new Request("http://x/openapi.json"));
  const { paths } = await answer.json() as { paths: Record<string, Record<string, unknown>> };
  return Object.entries(paths).flatMap(([path, item]) =>
    Object.keys(item).map((method) => ({ method: method.toUpperCase(), path }))
  );
}

async function ask(handler: Handler, peer: Peer, method: string, path: string, body?: unknown) {
  const request = new Request(`http://x${path}`, {
    method,
    headers: { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  setPeer(request, peer);
  const answer = await handler(request);
  const text = await answer.text();
  return { status: answer.status, code: text.startsWith("{") ? JSON.parse(text).code : undefined };
}

Deno.test("every route of every service that answers other machines has its rows, or is named as local only", async () => {
  const { apis } = services();
  deepEqual(Object.keys(apis).sort(), Object.keys(ACCESS).sort());
  for (const [service, api] of Object.entries(apis)) {
    for (const { method, path } of await routesOf(api)) {
      // Each collection of a joint stream is looked at by itself.
      if (path === JOINT_WATCH_PATH) continue;
      const rows = ACCESS[service].filter((row) => row.path === path && row.methods.includes(method));
      const local = LOCAL_ONLY[service]?.includes(`${method} ${path}`) ?? false;
      const watched = path.endsWith(":watch") &&
        ACCESS[service].some((row) => `${row.path}:watch` === path && row.methods.includes("GET"));
      equal(
        rows.length > 0 || watched,
        !local,
        `${service} ${method} ${path}: give it rows in services/agent/access.ts, or name it in LOCAL_ONLY`,
      );
    }
  }
});

Deno.test("no viewer, no reader and no stranger may write anything, and no node what is people's", async () => {
  const { apis } = services();
  for (const [service, api] of Object.entries(apis)) {
    const guarded = guardAccess(api.fetch, ACCESS[service]);
    for (const { method, path } of await routesOf(api)) {
      const at = path.replace("{name}", "node-2");
      // What asks for a certificate shows a secret, or is about the caller itself: the authority's own tests.
      if (/^\/v1\/(certificates:(issue|renew)|authority|enrollments)$/.test(path)) continue;
      const anonymous = await ask(guarded, { role: "anonymous", node: "" }, method, at);
      equal(anonymous.code, "UNAUTHENTICATED", `${service} ${method} ${path}`);
      if (method === "GET" || /^\/v1\/(explain|policies:wait|watch)$|:watch$/.test(path)) continue;
      // What is owned by what is stored is the next test's.
      const owned = ACCESS[service].some((row) => row.path === path && row.own === "node") ||
        path === "/v1/withdrawals:hand-back"; // signed, so anybody's
      for (const role of owned ? ["viewer", "reader"] as const : ["viewer", "reader", "node"] as const) {
        const { code } = await ask(guarded, { role, node: "someone" }, method, at, {});
        equal(
          ["FORBIDDEN", "NOT_OWNER"].includes(code ?? ""),
          true,
          `${role}: ${service} ${method} ${path}: ${code}`,
        );
      }
    }
  }
});

Deno.test("a reader reads what flows get their names from and who is a member, and nothing else", async () => {
  const { apis } = services();
  const names = [
    "identities",
    "nodes",
    "ipcache",
    "cidridentities",
    "fqdnselectors",
    "rules",
    "serviceports",
    "members",
  ];
  const reader: Peer = { role: "reader", node: "node-1" };
  for (const [service, api] of Object.entries(apis)) {
    const guarded = guardAccess(() => new Response(), ACCESS[service]);
    for (const { method, path } of await routesOf(api)) {
      if (/^\/(livez|readyz|version|openapi\.json|v1\/watch)$/.test(path)) continue;
      const { status } = await ask(guarded, reader, method, path.replace("{name}", "x"));
      const reads = names.some((name) =>
            path === `/v1/${name}` || path === `/v1/${name}/{name}`
          ) && method === "GET" ||
        names.some((name) => path === `/v1/${name}:watch`);
      equal(status !== 403, reads, `${service} ${method} ${path}: ${status}`);
    }
  }
});

Deno.test("a node cannot write what is another's: nodes, ipcache, identities", async () => {
  const { allocator } = services();
  await allocator.start();
  try {
    const api = guardAccess(allocator.api.fetch, ACCESS["identity-allocator"]);
    // The first pod CIDR of the pool is node-1's; init is an identity that every node may give.
    const entry = (node: string) => ({ prefix: "10.0.0.7/32", identity: 5, node });
    const at = "/v1/ipcache/10.0.0.7%2F32", without = "/v1/ipcache/10.0.0.7";
    const labels = ["k8s:app=web"];
    const cases: [Peer, string, string, unknown, number][] = [
      [NODE_1, "PUT", "/v1/nodes/node-1", { ipv4: "192.0.2.1" }, 200],
      [NODE_2, "PUT", "/v1/nodes/node-1", { ipv4: "192.0.2.2" }, 403],
      [NODE_2, "DELETE", "/v1/nodes/node-1", undefined, 403],
      [NODE_1, "PUT", at, entry("node-1"), 200],
      [NODE_2, "PUT", at, entry("node-1"), 403],
      [NODE_2, "PUT", at, entry("node-2"), 403],
      [NODE_2, "PUT", without, entry("node-2"), 403],
      [NODE_2, "PUT", "/v1/ipcache/192.0.2.9", { identity: 300 }, 403],
      [NODE_2, "DELETE", at, undefined, 403],
      [NODE_2, "DELETE", without, undefined, 403],
      [NODE_1, "POST", "/v1/identities:allocate", { labels, node: "node-1", holder: "a" }, 200],
      [NODE_2, "POST", "/v1/identities:allocate", { labels, node: "node-1", holder: "a" }, 403],
      [NODE_2, "POST", "/v1/identities:release", { node: "node-1", holder: "a" }, 403],
      [NODE_2, "POST", "/v1/identities:release", {}, 403],
      [NODE_2, "POST", "/v1/identities:allocate", undefined, 403],
      [NODE_2, "GET", "/v1/ipcache", undefined, 200],
      [NODE_1, "DELETE", at, undefined, 204],
      [NODE_1, "DELETE", "/v1/nodes/node-1", undefined, 204],
    ];
    for (const [peer, method, path, body, status] of cases) {
      const answer = await ask(api, peer, method, path, body);
      equal(answer.status, status, `${peer.node} ${method} ${path} ${JSON.stringify(body)}: ${answer.code}`);
    }
  } finally {
    await allocator.stop();
  }
});

Deno.test("a machine of the control plane may write for any node, an admin may delete nodes and not speak for them", async () => {
  const { allocator } = services();
  await allocator.start();
  try {
    const api = guardAccess(allocator.api.fetch, ACCESS["identity-allocator"]);
    const plane: Peer = { role: "control-plane", node: "node-1" },
      admin: Peer = { role: "admin", node: "eva" };
    equal((await ask(api, plane, "PUT", "/v1/nodes/node-9", { ipv4: "192.0.2.9" })).status, 200);
    equal((await ask(api, admin, "PUT", "/v1/nodes/node-9", { ipv4: "192.0.2.8" })).status, 403);
    equal((await ask(api, admin, "DELETE", "/v1/nodes/node-9")).status, 204);
  } finally {
    await allocator.stop();
  }
});

Deno.test("a joint stream has no collection that its reader may not watch", async () => {
  const { apis } = services();
  const engine = guardAccess(apis["policy-engine"].fetch, ACCESS["policy-engine"]);
  // The engine does not run: who may watch rules is to ask again.
  for (const [collection, code] of [["policies", "FORBIDDEN"], ["rules", "NOT_READY"]]) {
    const watches = [{ collection }];
    equal((await ask(engine, { role: "reader", node: "n" }, "POST", "/v1/watch", { watches })).code, code);
  }
  const guarded = guardAccess(apis["certificate-authority"].fetch, ACCESS["certificate-authority"]);
  const watch = (role: Peer["role"], ...names: string[]) =>
    ask(guarded, { role, node: "node-2" }, "POST", "/v1/watch", {
      watches: names.map((collection) => ({ collection })),
    });
  equal((await watch("node", "tokens")).code, "FORBIDDEN");
  equal((await watch("viewer", "members", "tokens")).code, "FORBIDDEN");
  equal((await watch("anonymous", "members")).code, "UNAUTHENTICATED");
  equal((await watch("viewer", "nothing")).code, "FORBIDDEN");
  equal((await watch("node")).code, "INVALID_ARGUMENT");
  equal((await watch("node", "members", "members")).code, "INVALID_ARGUMENT");
});
