/**
 * The table of who may call what from another machine. This file alone says it; the agent hands each service its rows,
 * and what no row names is refused. Local callers (unix sockets) are not bound by it.
 *
 * | role          | is                                                | may                                          |
 * | ------------- | ------------------------------------------------- | -------------------------------------------- |
 * | control-plane | a machine that runs the cluster's services        | what nodes and admins may, for any node      |
 * | node          | a machine that joined                             | read; write what is its own                  |
 * | reader        | a machine's flow exporter, and the relay          | read what gives flows their names, and who is a member |
 * | admin         | a person or tool with such a token                | read; change policies, services, membership  |
 * | viewer        | a person or tool with such a token                | read                                         |
 * | anonymous     | whoever showed neither                            | ask for a certificate with a join token, for one with a token of Kubernetes |
 *
 * @module
 */
import type { AccessRow, PeerRole } from "@weir/common";

const READERS: readonly PeerRole[] = ["node", "control-plane", "admin", "viewer"];
const PEOPLE: readonly PeerRole[] = ["control-plane", "admin", "viewer"];
const NODES: readonly PeerRole[] = ["node", "control-plane"];
const ADMINS: readonly PeerRole[] = ["admin", "control-plane"];

const readingBy = (roles: readonly PeerRole[], collections: string[]): AccessRow[] =>
  collections.flatMap((name) => [
    { roles, methods: ["GET"], path: `/v1/${name}` },
    { roles, methods: ["GET"], path: `/v1/${name}/{name}` },
    { roles, methods: ["POST"], path: `/v1/${name}:watch` },
  ]);
const reading = (...collections: string[]) => readingBy(READERS, collections);
/** What flows get their names from. */
const naming = (...collections: string[]) => readingBy([...READERS, "reader"], collections);
const administering = (...collections: string[]): AccessRow[] =>
  collections.map((name) => ({ roles: ADMINS, methods: ["PUT", "DELETE"], path: `/v1/${name}/{name}` }));
const metrics: AccessRow = { roles: PEOPLE, methods: ["GET"], path: "/metrics" };

/** Rows by service. Services that are not named here answer no other machine. */
export const ACCESS: Readonly<Record<string, readonly AccessRow[]>> = {
  "certificate-authority": [
    metrics,
    { roles: [...READERS, "anonymous"], methods: ["GET"], path: "/v1/authority" },
    { roles: [...NODES, "anonymous"], methods: ["POST"], path: "/v1/certificates:issue" },
    { roles: NODES, methods: ["POST"], path: "/v1/certificates:renew" },
    ...naming("members"),
    ...reading("withdrawals"),
    // They are signed: it does not matter who says them.
    { roles: NODES, methods: ["POST"], path: "/v1/withdrawals:hand-back" },
    { roles: NODES, methods: ["DELETE"], path: "/v1/members/{name}", own: "name" },
    { roles: ADMINS, methods: ["DELETE"], path: "/v1/members/{name}" },
    { roles: ADMINS, methods: ["GET", "POST"], path: "/v1/tokens" },
    { roles: ADMINS, methods: ["GET", "DELETE"], path: "/v1/tokens/{name}" },
  ],
  "identity-allocator": [
    metrics,
    ...naming("identities", "nodes", "ipcache"),
    ...reading("holders", "podpools"),
    ...administering("podpools"),
    { roles: NODES, methods: ["POST"], path: "/v1/identities:allocate", own: "node" },
    { roles: NODES, methods: ["POST"], path: "/v1/identities:release", own: "node" },
    { roles: NODES, methods: ["POST"], path: "/v1/identities:claim", own: "node" },
    { roles: NODES, methods: ["PUT", "DELETE"], path: "/v1/nodes/{name}", own: "name" },
    { roles: NODES, methods: ["POST"], path: "/v1/nodes:heartbeat", own: "node" },
    { roles: ADMINS, methods: ["DELETE"], path: "/v1/nodes/{name}" },
    { roles: NODES, methods: ["PUT", "DELETE"], path: "/v1/ipcache/{name}", own: "node" },
    { roles: NODES, methods: ["POST"], path: "/v1/ipcache:update", own: "node" },
  ],
  "policy-engine": [
    metrics,
    ...naming("cidridentities", "fqdnselectors", "rules"),
    ...reading("policies", "pendingchanges", "mapstates", "nodepolicies", "policyfaults", "policyselections"),
    ...administering("policies"),
    { roles: READERS, methods: ["GET"], path: "/v1/revision" },
    { roles: READERS, methods: ["POST"], path: "/v1/explain" },
    { roles: READERS, methods: ["POST"], path: "/v1/policies:wait" },
    { roles: ADMINS, methods: ["POST"], path: "/v1/policies:apply" },
    { roles: ADMINS, methods: ["POST"], path: "/v1/policies:delete" },
    { roles: ADMINS, methods: ["POST"], path: "/v1/policies:confirm" },
    { roles: ADMINS, methods: ["POST"], path: "/v1/policies:rollback" },
    { roles: ADMINS, methods: ["POST"], path: "/v1/policies:accept-database" },
    { roles: NODES, methods: ["PUT"], path: "/v1/nodepolicies/{name}", own: "name" },
  ],
  "load-balancer": [
    metrics,
    ...naming("serviceports"),
    ...reading("services", "backends", "addresspools", "pods", "backendoverrides"),
    ...administering("services", "addresspools", "pods", "backendoverrides"),
    { roles: ADMINS, methods: ["POST"], path: "/v1/services:apply" },
    { roles: ADMINS, methods: ["POST"], path: "/v1/services:delete" },
  ],
  "kubernetes": [
    metrics,
    // Of pods a node reads its own: the service looks at each request.
    ...reading("pods"),
    ...naming("nodes"),
    ...readingBy(PEOPLE, ["reflections", "objectfaults"]),
    { roles: NODES, methods: ["POST"], path: "/v1/events", own: "node" },
    // It shows a token of Kubernetes.
    { roles: [...NODES, "anonymous"], methods: ["POST"], path: "/v1/enrollments" },
  ],
};

/** Routes of those services that no other machine may call, each with its reason. */
export const LOCAL_ONLY: Readonly<Record<string, readonly string[]>> = {
  // For the service that takes everything from Kubernetes, on the same machine: what was given, whole, and that it was all.
  "policy-engine": ["POST /v1/policies:kubernetes-read"],
  "load-balancer": [
    // For the policy engine, on the same machine.
    "GET /v1/servicepeers",
    "GET /v1/servicepeers/{name}",
    "POST /v1/servicepeers:watch",
    "GET /v1/sources",
    "GET /v1/sources/{name}",
    "POST /v1/sources:watch",
    "POST /v1/services:kubernetes-read",
  ],
};
