/**
 * The HTTP surface: each handler decodes, calls, encodes.
 * @module
 */
import { invalidArgument, IpAddress, ProblemError, unixSeconds } from "@weir/common";
import {
  AddressPool,
  ApplyRequest,
  ApplyResponse,
  Backend,
  BackendOverride,
  type Change,
  Pod,
  Service,
  ServicePeers,
  ServicePort,
  Source,
} from "@weir/proto/loadbalancer";
import { checkPod, checkPool } from "./checks.ts";
import { LoadBalancer, type LoadBalancerOptions } from "./load_balancer.ts";
import {
  LB_MANIFEST_LIMITS,
  type LbObject,
  manifestProblem,
  readManifests,
  type ReadOptions,
} from "./manifest.ts";

const BODY_BYTES_MAX = LB_MANIFEST_LIMITS.bytesMax + 64 * 1024;
const API = "api";

/** Builds the load balancer with its API; nothing runs before `start()`. */
export function createLoadBalancer(options: LoadBalancerOptions): LoadBalancer {
  const lb = new LoadBalancer(options);
  mountRoutes(lb);
  return lb;
}

function mountRoutes(lb: LoadBalancer): void {
  const { api, tables } = lb;
  api.collection<Service>({
    name: "services",
    message: Service,
    guard: lb.toNodes,
    table: tables.services,
    filters: {
      namespace: (namespace) => (service) => service.namespace === namespace,
      type: (type) => (service) => service.type === type,
    },
    put: (name, value) => putService(lb, name, value),
    delete: (name) => lb.change((change) => change.deleteObject("Service", name)),
    bodyBytesMax: BODY_BYTES_MAX,
    description: "Services as people see them, by NAMESPACE/NAME; PUT takes a whole manifest in `manifest`",
  });
  api.action({
    path: "/v1/services:apply",
    request: ApplyRequest,
    response: ApplyResponse,
    bodyBytesMax: BODY_BYTES_MAX,
    handle: async (request) => {
      const objects = read(request.manifest, optionsOf(request), request.file);
      const items = await applyObjects(lb, objects, request.file, API, request.dryRun);
      return { revision: tables.services.revision, items };
    },
    description: "Every Service, EndpointSlice, Endpoints and pool of a text of manifests, all or none",
  });
  api.action({
    path: "/v1/services:delete",
    request: ApplyRequest,
    response: ApplyResponse,
    bodyBytesMax: BODY_BYTES_MAX,
    handle: async (request) => {
      const objects = read(request.manifest, optionsOf(request), request.file);
      const items = await lb.change(async (change) => {
        const items: Change[] = [];
        for (const object of objects) {
          const known = object.kind !== "ignored";
          const existed = known && await change.deleteObject(object.kind, object.name);
          items.push(said(object, !known ? "ignored" : existed ? "deleted" : "not found"));
        }
        return items;
      });
      return { revision: tables.services.revision, items };
    },
    description: "What a text of manifests names",
  });
  api.collection<ServicePeers>({
    name: "servicepeers",
    message: ServicePeers,
    guard: lb.toNodes,
    table: tables.peers,
    description: "Whom policies mean by a service (toServices), by NAMESPACE/NAME",
  });
  api.collection<ServicePort>({
    name: "serviceports",
    message: ServicePort,
    guard: lb.toNodes,
    table: tables.servicePorts,
    indexes: { namespace: (port) => port.namespace },
    description: "Ports of services as nodes serve them, by id",
  });
  api.collection<Backend>({
    name: "backends",
    message: Backend,
    guard: lb.toNodes,
    table: tables.backends,
    indexes: { service: (backend) => String(backend.service) },
    description: "Backends of service ports, by ID/ADDRESS/PORT",
  });
  api.collection<Source>({
    name: "sources",
    message: Source,
    table: lb.sources,
    description: "Services, EndpointSlices and Endpoints as they were given, by KIND/NAMESPACE/NAME",
  });
  api.action({
    path: "/v1/services:kubernetes-read",
    response: ApplyResponse,
    handle: async () => {
      await lb.kubernetesRead();
      return { revision: tables.services.revision, items: [] };
    },
    description: "All services that Kubernetes has were handed on: nodes that wait for them are answered",
  });
  mountPools(lb);
  mountPods(lb);
  mountOverrides(lb);
}

/** Applies objects, all or none; answers what each changed. */
export async function applyObjects(
  lb: LoadBalancer,
  objects: readonly LbObject[],
  file: string,
  origin: string,
  dryRun = false,
): Promise<Change[]> {
  const items: Change[] = [];
  const run = lb.change(async (change) => {
    items.length = 0;
    for (const object of objects) {
      const result = await change.putObject(object, { file, origin });
      items.push(said(object, object.kind === "ignored" ? "ignored" : result));
    }
    // Everything is checked, numbers included, and then given back.
    if (dryRun) throw new DryRun();
  });
  await run.catch((error) => {
    if (!(error instanceof DryRun)) throw error;
  });
  for (const item of items) {
    const service = item.kind === "Service" ? lb.tables.services.get(item.name) : undefined;
    for (const { type, ok, message } of service?.conditions ?? []) {
      if (!ok && TOLD_AT_ONCE.has(type)) item.warnings.push(`${item.name}: ${message}`);
    }
  }
  return items;
}

/** Conditions that whoever applies a service should hear of; others (no backends yet) come and go. */
const TOLD_AT_ONCE: ReadonlySet<string> = new Set(["Conflict", "AddressPool"]);

class DryRun extends ProblemError {
  constructor() {
    super("DRY_RUN", { detail: "Nothing is written" });
  }
}

async function putService(lb: LoadBalancer, name: string, value: Service): Promise<Service> {
  const objects = read(value.manifest, {
    file: value.file,
    line: Math.max(1, value.line),
    namespace: value.namespace || undefined,
  }, value.file);
  if (objects.length !== 1 || objects[0].kind !== "Service" || objects[0].name !== name) {
    throw new ProblemError("SERVICE_NAME_MISMATCH", {
      detail: `Cannot put service ${JSON.stringify(name)}: its manifest holds something else`,
      found: objects.map((object) => `${object.kind} ${object.name}`).join(", ") || "nothing",
      expected: `Service ${name}`,
    });
  }
  await applyObjects(lb, objects, value.file, API);
  return lb.tables.services.get(name)!;
}

function mountPools(lb: LoadBalancer): void {
  lb.api.collection<AddressPool>({
    name: "addresspools",
    message: AddressPool,
    table: lb.addressPools,
    put: async (name, value) => {
      await lb.change((change) => change.putPool(checkPool(name, value)));
      return lb.addressPools.get(name)!;
    },
    delete: (name) => lb.change((change) => change.deletePool(name)),
    description: "Addresses for services of type LoadBalancer",
  });
}

function mountPods(lb: LoadBalancer): void {
  lb.api.collection<Pod>({
    name: "pods",
    message: Pod,
    table: lb.pods,
    indexes: { node: (pod) => pod.node },
    put: async (name, value) => {
      const before = lb.pods.get(name);
      const pod = { ...checkPod(name, value), createdUnixS: before?.createdUnixS ?? unixSeconds(lb.clock) };
      if (before === undefined || JSON.stringify(before) !== JSON.stringify(pod)) {
        await lb.change((change) => change.putPod(pod));
      }
      return pod;
    },
    delete: (name) => lb.change((change) => change.deletePod(name)),
    description: "Pods as sources of backends, by NAMESPACE/NAME",
  });
}

function mountOverrides(lb: LoadBalancer): void {
  lb.api.collection<BackendOverride>({
    name: "backendoverrides",
    message: BackendOverride,
    table: lb.overrides,
    put: async (name, value) => {
      const match = /^([^/]+)\/([^/]+)\/([^/]+)$/.exec(name);
      const address = IpAddress.tryParse(match?.[3] ?? "");
      if (match === null || address === undefined || address.text !== match[3] || value.weight > 100) {
        throw invalidArgument("Cannot take what is said of the backend", {
          found: `${name.slice(0, 80)}, weight ${value.weight}`,
          expected: "NAMESPACE/SERVICE/ADDRESS, a weight up to 100",
        });
      }
      const override = { ...value, name, namespace: match[1], service: match[2], address: address.text };
      await lb.change((change) => change.putOverride(override));
      return override;
    },
    delete: (name) => lb.change((change) => change.deleteOverride(name)),
    description: "Maintenance, quarantine and weight of single backends, by NAMESPACE/SERVICE/ADDRESS",
  });
}

/** @throws {ProblemError} SERVICE_INVALID with every fault */
export function read(text: string, options: ReadOptions, file = ""): readonly LbObject[] {
  const manifests = readManifests(text, options);
  if (manifests.faults.length > 0) throw manifestProblem(manifests, file);
  if (!manifests.objects.some(({ kind }) => kind !== "ignored")) {
    throw new ProblemError("SERVICE_INVALID", {
      status: 422,
      detail: "Cannot take services: the text holds none",
      found: manifests.objects.map((object) =>
        object.kind === "ignored" ? object.of : object.kind
      ).join(", ") ||
        "no document",
      expected: "a Service, EndpointSlice, Endpoints or address pool",
    });
  }
  return manifests.objects;
}

function optionsOf(request: ApplyRequest): ReadOptions {
  return { file: request.file, namespace: request.namespace || undefined };
}

function said(object: LbObject, change: string): Change {
  const kind = object.kind === "ignored" ? object.of : object.kind;
  return { kind, name: object.name, change, warnings: [...object.warnings] };
}
