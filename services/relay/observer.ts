/** Hubble's Observer of a whole cluster, by gRPC path. Agent and debug events are each node's own: they are unimplemented here. @module */
import { type Clock, type Logger, type MetricsRegistry, WEIR_VERSION } from "@weir/common";
import { type GrpcMethods, healthMethods, unary } from "@weir/grpc";
import type { Init, Message } from "@weir/proto";
import {
  GetNamespacesRequest,
  GetNamespacesResponse,
  GetNodesRequest,
  GetNodesResponse,
  type Namespace,
  type Node,
  ServerStatusRequest,
  ServerStatusResponse,
} from "@weir/proto/observer";
import { getFlows } from "./get_flows.ts";
import type { NodeLink } from "./node_link.ts";
import type { NodeLinks } from "./node_links.ts";

/** Name of the service for grpc.health.v1: clients ask for this one. */
const OBSERVER_HEALTH = "hubble.server.Observer";
/** A node that does not answer a question in this time is left out of the answer. */
const ASK_MS_MAX = 3000;
/** Of what nodes say of themselves: their sum is a number still, and one client reads the answers of all, and takes 4 MiB. */
const COUNT_MAX = 1e15;
const NAMESPACES_MAX = 4096, NAME_MAX = 253, VERSION_MAX = 256;

/** What the methods answer from. */
export interface RelayParts {
  readonly links: NodeLinks;
  /** Of the node that the relay runs on. */
  readonly nodeName: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: MetricsRegistry;
  /** The list of nodes is known. */
  readonly isSynced: () => boolean;
}

/** Methods by path. */
export function relayMethods(parts: RelayParts): GrpcMethods {
  const { links, clock, metrics } = parts, startMs = clock.monotonicMs();
  const faults = metrics.counter(
    "weir_relay_node_faults_total",
    "Requests that a node was left out of, for it sent what it should not",
  );
  const isServing = () => parts.isSynced() && links.connected.length > 0;
  return {
    "/observer.Observer/GetFlows": {
      open: (bytes, { signal }) => getFlows(bytes, { ...parts, faults }, signal),
    },
    "/observer.Observer/ServerStatus": unary(
      ServerStatusRequest,
      ServerStatusResponse,
      async (_, { signal }) => {
        const answers = await askStatus(links, signal);
        const total = (of: (status: ServerStatusResponse) => number) =>
          answers.reduce((sum, { answer }) => sum + counted(answer === undefined ? 0 : of(answer)), 0);
        const away = answers.filter(({ answer }) => answer === undefined).map(({ link }) => link.name);
        return ServerStatusResponse.create({
          num_flows: total(({ num_flows }) => num_flows),
          max_flows: total(({ max_flows }) => max_flows),
          seen_flows: total(({ seen_flows }) => seen_flows),
          flows_rate: total(({ flows_rate }) => flows_rate),
          uptime_ns: Math.round((clock.monotonicMs() - startMs) * 1e6),
          num_connected_nodes: { value: answers.length - away.length },
          num_unavailable_nodes: { value: away.length },
          unavailable_nodes: away,
          version: `weir ${WEIR_VERSION}`,
        });
      },
    ),
    "/observer.Observer/GetNodes": unary(GetNodesRequest, GetNodesResponse, async (_, { signal }) => {
      const answers = await askStatus(links, signal);
      return GetNodesResponse.create({ nodes: answers.map(({ link, answer }) => nodeOf(link, answer)) });
    }),
    "/observer.Observer/GetNamespaces": unary(
      GetNamespacesRequest,
      GetNamespacesResponse,
      async (_, { signal }) => {
        const path = "/observer.Observer/GetNamespaces";
        const answers = await askAll(links, path, [GetNamespacesRequest, GetNamespacesResponse], signal);
        const found = new Map<string, Namespace>();
        const told = answers.flatMap(({ answer }) => answer?.namespaces.slice(0, NAMESPACES_MAX) ?? []);
        for (const { cluster, namespace } of told) {
          if (found.size >= NAMESPACES_MAX) break;
          if (cluster.length > NAME_MAX || namespace.length > NAME_MAX) continue;
          found.set(`${cluster}/${namespace}`, { cluster, namespace });
        }
        return GetNamespacesResponse.create({
          namespaces: [...found.keys()].sort().map((key) => found.get(key)!),
        });
      },
    ),
    ...healthMethods([OBSERVER_HEALTH], isServing, (ms, signal) => clock.sleep(ms, signal)),
  };
}

interface Answered<Res> {
  readonly link: NodeLink;
  /** Undefined: it is away, or gave none. */
  readonly answer: Res | undefined;
}

const askStatus = (links: NodeLinks, signal: AbortSignal) =>
  askAll(links, "/observer.Observer/ServerStatus", [ServerStatusRequest, ServerStatusResponse], signal);

/** One question to every node. */
async function askAll<Req, Res>(
  links: NodeLinks,
  path: string,
  messages: readonly [Message<Req>, Message<Res>],
  signal: AbortSignal,
): Promise<Answered<Res>[]> {
  await links.settled(signal);
  return await Promise.all(
    links.list().map(async (link): Promise<Answered<Res>> => {
      const asked = link.connection?.unary(path, messages, {} as Init<Req>, {
        signal,
        deadlineMs: ASK_MS_MAX,
      });
      return { link, answer: await asked?.catch(() => undefined) };
    }),
  );
}

function nodeOf(link: NodeLink, status: ServerStatusResponse | undefined): Init<Node> {
  const { name, address, serverName } = link;
  const tls = { enabled: serverName !== undefined, server_name: serverName ?? "" };
  if (status === undefined) return { name, address, tls, state: "NODE_UNAVAILABLE" };
  const { version, uptime_ns, num_flows, max_flows, seen_flows } = status;
  return {
    name,
    address,
    tls,
    state: "NODE_CONNECTED",
    version: version.slice(0, VERSION_MAX),
    uptime_ns: counted(uptime_ns),
    num_flows: counted(num_flows),
    max_flows: counted(max_flows),
    seen_flows: counted(seen_flows),
  };
}

/** A number that adds up, whatever a node says. */
function counted(number: number): number {
  return number >= 0 ? Math.min(number, COUNT_MAX) : 0;
}
