/** The service's HTTP API. @module */
import { peerOf, peerText, ProblemError } from "@weir/common";
import {
  EnrollmentRequest,
  EnrollmentResponse,
  KubernetesNode,
  KubernetesPod,
  NodeEvent,
  NodeEventResponse,
  ObjectFault,
  Reflection,
} from "@weir/proto/kubernetes";
import { KubernetesService, type KubernetesServiceOptions } from "./kubernetes_service.ts";

const ENROLLMENT_BYTES_MAX = 32 << 10;
/** Longest event, bytes. */
const EVENT_BYTES_MAX = 8_192;

/** The factory: everything that the service needs comes in here. Call `start()` next. */
export function createKubernetesService(options: KubernetesServiceOptions): KubernetesService {
  const service = new KubernetesService(options);
  mountRoutes(service);
  return service;
}

function mountRoutes(service: KubernetesService): void {
  const { api, pods, nodes, faults, enrollments } = service;
  api.collection<KubernetesPod>({
    name: "pods",
    message: KubernetesPod,
    table: pods.table,
    indexes: { node: (pod) => pod.node },
    guard: (request) => assertOwnPods(request, (name) => pods.table.get(name)?.node),
    description: "Pods by NAMESPACE/NAME, with what their namespaces say; a node reads its own, with ?node=",
  });
  api.collection<KubernetesNode>({
    name: "nodes",
    message: KubernetesNode,
    table: nodes,
    description: "Nodes as Kubernetes knows them",
  });
  api.collection<Reflection>({
    name: "reflections",
    message: Reflection,
    list: () => service.reflections(),
    get: (name) => service.reflections().find((one) => one.name === name),
    description: "How far each kind of objects is read from the API server",
  });
  api.collection<ObjectFault>({
    name: "objectfaults",
    message: ObjectFault,
    table: faults.table,
    description: "Objects that could not be handed on, and why, by KIND/NAMESPACE/NAME",
  });
  api.action({
    path: "/v1/enrollments",
    request: EnrollmentRequest,
    response: EnrollmentResponse,
    bodyBytesMax: ENROLLMENT_BYTES_MAX,
    handle: (request, { remoteAddress }) => {
      if (enrollments !== undefined) return enrollments.enroll(request, remoteAddress);
      throw new ProblemError("NOT_REACHABLE", {
        status: 503,
        detail: "Cannot enroll: the control plane listens for no other machine",
        action: "Start it with an address: weir agent --control-plane --kubernetes --listen ADDRESS",
      });
    },
    description: "A join token for a node whose pod shows its service account's token",
  });
  api.action({
    path: "/v1/events",
    request: NodeEvent,
    response: NodeEventResponse,
    bodyBytesMax: EVENT_BYTES_MAX,
    handle: (event, { peer }) => service.events.tell(event, peer),
    description: "What a node says of a pod of its own, or of a Service, as an Event beside that object",
  });
}

/** A node is told of its own pods alone. @throws {ProblemError} NOT_OWNER, status 403 */
function assertOwnPods(request: Request, nodeOf: (name: string) => string | undefined): void {
  const peer = peerOf(request);
  if (peer?.role !== "node") return;
  const { pathname, searchParams } = new URL(request.url);
  const [, encoded] = /^\/v1\/pods\/(.+)$/.exec(pathname) ?? [];
  const asked = encoded === undefined
    ? searchParams.getAll("node")
    : [nodeOf(decodeURIComponent(encoded)) ?? ""];
  const isOwn = asked.length === 1 && asked[0] === peer.node;
  // By names anything could be asked for; and nothing tells whether there is a pod that is not its own.
  if (isOwn && request.method !== "POST") return;
  throw new ProblemError("NOT_OWNER", {
    status: 403,
    detail: `Cannot read these pods as ${peerText(peer)}: a node reads its own`,
    expected: `GET /v1/pods?node=${peer.node}`,
  });
}
