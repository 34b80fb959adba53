/**
 * An API server on loopback, in a process of its own, that makes up the nodes, namespaces and pods of a large cluster as they are
 * listed, and keeps what is written to it: `deno run -A made_up_api_server.ts NODES PODS NAMESPACES`. It prints its port.
 * `GET /counted` says what it was asked and forgets it.
 * @module
 */

interface Kept {
  apiVersion: string;
  kind: string;
  metadata: Record<string, unknown> & { name: string; namespace?: string };
  [more: string]: unknown;
}

const [nodes, pods, namespaces] = Deno.args.map(Number);
const encoder = new TextEncoder();
let version = 1000;
let counted = { requests: {} as Record<string, number>, bytesRead: 0, bytesWritten: 0, bytesWatched: 0 };
/** What was written, by collection; watchers of each. */
const kept = new Map<string, Map<string, Kept>>();
const watchers = new Map<string, Set<WritableStreamDefaultWriter<Uint8Array>>>();

const uid = (kind: number, i: number) => `00000000-0000-${kind}000-8000-${String(i).padStart(12, "0")}`;
const meta = (kind: number, i: number, name: string, namespace?: string) => ({
  name,
  ...(namespace === undefined ? {} : { namespace }),
  uid: uid(kind, i),
  resourceVersion: "900",
  creationTimestamp: "2026-01-01T00:00:00Z",
  managedFields: [{ manager: "kube-controller-manager", fieldsV1: { "f:spec": { "f:containers": {} } } }],
});
const MADE_UP: Record<string, { kind: string; count: number; make: (i: number) => unknown }> = {
  "/api/v1/nodes": {
    kind: "Node",
    count: nodes,
    make: (i) => ({
      metadata: { ...meta(1, i, `node-${i}`), labels: { "kubernetes.io/hostname": `node-${i}` } },
      spec: { podCIDR: `10.${i >> 8}.${i & 255}.0/24`, podCIDRs: [`10.${i >> 8}.${i & 255}.0/24`] },
      status: {
        addresses: [{ type: "InternalIP", address: `172.${16 + (i >> 8)}.${i & 255}.1` }],
        conditions: [{ type: "Ready", status: "True" }],
      },
    }),
  },
  "/api/v1/namespaces": {
    kind: "Namespace",
    count: namespaces,
    make: (i) => ({ metadata: { ...meta(2, i, `ns-${i}`), labels: { team: `team-${i % 50}` } } }),
  },
  "/api/v1/pods": {
    kind: "Pod",
    count: pods,
    make: (i) => ({
      metadata: {
        ...meta(3, i, `web-${i}`, `ns-${i % namespaces}`),
        labels: { app: `app-${i % 1000}`, "pod-template-hash": `${i % 1000}` },
        annotations: { "example.com/checksum": "0123456789abcdef".repeat(4) },
      },
      spec: {
        nodeName: `node-${i % nodes}`,
        serviceAccountName: "default",
        containers: [{
          name: "web",
          image: "registry.example/web:1",
          ports: [{ containerPort: 8080, name: "http", protocol: "TCP" }],
          env: Array.from({ length: 20 }, (_, at) => ({ name: `VARIABLE_${at}`, value: "value ".repeat(5) })),
          resources: { requests: { cpu: "100m", memory: "128Mi" } },
          volumeMounts: [{ name: "token", mountPath: "/var/run/secrets/kubernetes.io/serviceaccount" }],
        }],
      },
      status: {
        phase: "Running",
        podIPs: [{ ip: `10.${100 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}` }],
        podIP: `10.${100 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`,
        conditions: ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map((type) => ({
          type,
          status: "True",
          lastTransitionTime: "2026-01-01T00:00:00Z",
        })),
      },
    }),
  },
};

Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: ({ port }) => console.log(port) }, async (request) => {
  const url = new URL(request.url), { pathname } = url;
  if (pathname === "/counted") {
    const answer = Response.json(counted);
    counted = { requests: {}, bytesRead: 0, bytesWritten: 0, bytesWatched: 0 };
    return answer;
  }
  const isWatch = url.searchParams.get("watch") === "true";
  const verb = isWatch ? "watch" : request.method === "GET" ? "read" : "write";
  counted.requests[verb] = (counted.requests[verb] ?? 0) + 1;
  if (request.method === "GET") return isWatch ? watch(collectionOf(pathname)) : list(url);
  const body = await request.text();
  counted.bytesWritten += body.length;
  return write(request.method, pathname, body);
});

/** The collection of all namespaces that a path is in, and the object's name. */
function partsOf(pathname: string): { collection: string; namespace: string; name: string } {
  const [, group, rest] = /^(\/api\/v1|\/apis\/[^/]+\/[^/]+)\/(.+)$/.exec(pathname) ?? [, "", pathname];
  const inNamespace = /^namespaces\/([^/]+)\/([^/]+)(?:\/([^/]+))?/.exec(rest!);
  if (inNamespace !== null) {
    const [, namespace, plural, name = ""] = inNamespace;
    return { collection: `${group}/${plural}`, namespace, name };
  }
  const [plural, name = ""] = rest!.split("/");
  return { collection: `${group}/${plural}`, namespace: "", name };
}
function collectionOf(pathname: string): string {
  return partsOf(pathname).collection;
}

function list(url: URL): Response {
  const collection = collectionOf(url.pathname), made = MADE_UP[collection];
  const limit = Number(url.searchParams.get("limit") ?? 500),
    from = Number(url.searchParams.get("continue") ?? 0);
  const all = made === undefined ? [...kept.get(collection)?.values() ?? []] : undefined;
  const count = made?.count ?? all!.length, to = Math.min(count, from + limit);
  const items = made === undefined
    ? all!.slice(from, to)
    : Array.from({ length: to - from }, (_, i) => made.make(from + i));
  const metadata = { resourceVersion: `${version}`, continue: to < count ? `${to}` : "" };
  const text = JSON.stringify({ kind: `${made?.kind ?? "Object"}List`, apiVersion: "v1", metadata, items });
  counted.bytesRead += text.length;
  return new Response(text, { headers: { "content-type": "application/json" } });
}

function watch(collection: string): Response {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const writer = writable.getWriter(), all = watchers.get(collection) ?? new Set();
  watchers.set(collection, all.add(writer));
  const bookmark = () =>
    void writer.write(encoder.encode(
      `${JSON.stringify({ type: "BOOKMARK", object: { metadata: { resourceVersion: `${version}` } } })}\n`,
    )).catch(() => {});
  bookmark();
  const timer = setInterval(bookmark, 30_000);
  writer.closed.catch(() => {}).finally(() => {
    clearInterval(timer);
    all.delete(writer);
  });
  return new Response(readable, { headers: { "content-type": "application/json" } });
}

function write(method: string, pathname: string, body: string): Response {
  const { collection, namespace, name: named } = partsOf(pathname);
  const given = (body === "" ? {} : JSON.parse(body)) as Partial<Kept>;
  const name = named || given.metadata?.name || "", key = `${namespace}/${name}`;
  const objects = kept.get(collection) ?? new Map<string, Kept>();
  kept.set(collection, objects);
  const before = objects.get(key), resourceVersion = `${++version}`;
  if (method === "DELETE" || (before === undefined && method === "PATCH" && !given.kind)) {
    if (before === undefined) {
      return Response.json({ kind: "Status", code: 404, reason: "NotFound" }, { status: 404 });
    }
    objects.delete(key);
    tell(collection, "DELETED", { ...before, metadata: { ...before.metadata, resourceVersion } });
    return Response.json({ kind: "Status", status: "Success" });
  }
  const metadata = {
    uid: crypto.randomUUID(),
    creationTimestamp: "2026-01-01T00:00:00Z",
    ...before?.metadata,
    ...given.metadata,
    name,
    ...(namespace === "" ? {} : { namespace }),
    resourceVersion,
  };
  const object = { ...before, ...given, metadata } as Kept;
  objects.set(key, object);
  tell(collection, before === undefined ? "ADDED" : "MODIFIED", object);
  return Response.json(object, { status: before === undefined ? 201 : 200 });
}

function tell(collection: string, type: string, object: Kept): void {
  const bytes = encoder.encode(`${JSON.stringify({ type, object })}\n`);
  for (const writer of watchers.get(collection) ?? []) {
    counted.bytesWatched += bytes.length;
    void writer.write(bytes).catch(() => {});
  }
}
