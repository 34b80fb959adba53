/** A cluster of nodes for tests of the relay: servers on unix sockets that answer as they are told. @module */
import assert from "node:assert/strict";
import { type Clock, Logger, MetricsRegistry, systemClock } from "@weir/common";
import { type GrpcMethods, GrpcServer, unary } from "@weir/grpc";
import type { Init } from "@weir/proto";
import {
  GetFlowsRequest,
  GetFlowsResponse,
  ServerStatusRequest,
  ServerStatusResponse,
} from "@weir/proto/observer";
import { Node } from "@weir/proto/identity";
import { getFlows } from "./get_flows.ts";
import { NodeLinks } from "./node_links.ts";

const STATUS = { num_flows: 3, max_flows: 10, seen_flows: 100 };

/** What a node of a test answers. */
export type Answer = (request: GetFlowsRequest, signal: AbortSignal) => AsyncIterable<readonly Uint8Array[]>;

/** Nodes that answer as they are told, on sockets in a directory of their own, and a relay that follows them. */
export class Cluster implements AsyncDisposable {
  readonly directory = Deno.makeTempDirSync();
  readonly metrics = new MetricsRegistry();
  readonly links: NodeLinks;
  readonly asked = new Map<string, GetFlowsRequest[]>();
  readonly #servers = new Map<string, GrpcServer>();

  readonly #clock: Clock;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
    this.links = new NodeLinks({
      targetOf: ({ name }) => ({ address: { path: `${this.directory}/${name}` } }),
      clock,
      log: Logger.silent(),
    });
  }

  /** A node that answers so. */
  async start(name: string, answer: Answer, status: Init<ServerStatusResponse> = STATUS): Promise<void> {
    const methods: GrpcMethods = {
      "/observer.Observer/GetFlows": {
        open: (bytes, { signal }) => {
          const request = GetFlowsRequest.decode(bytes);
          this.asked.set(name, [...this.asked.get(name) ?? [], request]);
          return answer(request, signal);
        },
      },
      "/observer.Observer/ServerStatus": unary(
        ServerStatusRequest,
        ServerStatusResponse,
        () => ServerStatusResponse.create(status),
      ),
    };
    await this.join(name, new GrpcServer({ methods }));
  }

  /** A node with a server that is there. */
  async join(name: string, server: GrpcServer, cluster = "c"): Promise<void> {
    await server.listen({ path: `${this.directory}/${name}` });
    this.#servers.set(name, server);
    this.links.set(name, Node.create({ name, cluster }));
  }

  /** It goes. */
  async stop(name: string): Promise<void> {
    await this.#servers.get(name)!.stop(0);
  }

  /** The relay's answer. */
  ask(request: Init<GetFlowsRequest>, signal: AbortSignal = new AbortController().signal) {
    const parts = {
      links: this.links,
      nodeName: "relay-1",
      clock: this.#clock,
      log: Logger.silent(),
      faults: this.metrics.counter("faults_total", "Faults"),
    };
    return getFlows(GetFlowsRequest.encode(request), parts, signal);
  }

  /** The whole of it. */
  async all(request: Init<GetFlowsRequest>): Promise<string[]> {
    const out: string[] = [];
    for await (const batch of this.ask(request)) out.push(...batch.map(said));
    return out;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.links.close();
    for (const name of this.#servers.keys()) await this.stop(name);
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** A response in a few words. */
export function said(bytes: Uint8Array): string {
  const { flow, node_status, node_name } = GetFlowsResponse.decode(bytes);
  if (node_status === undefined) return `${node_name} ${flow?.uuid}`;
  const { state_change, node_names, message } = node_status;
  assert.equal(node_name, "relay-1");
  return `${state_change} ${node_names.join()}${message === "" ? "" : ` (${message})`}`;
}

/** A flow of a node of cluster c, encoded. */
export const flow = (node: string, uuid: string, unixMs: number) =>
  GetFlowsResponse.encode({
    flow: { uuid },
    node_name: `c/${node}`,
    time: { seconds: Math.floor(unixMs / 1000), nanos: Math.floor((unixMs % 1000) * 1e6) },
  });
/** Flows of these times, and the end. */
export const history = (node: string, ...times: number[]): Answer =>
  async function* () {
    yield await Promise.resolve(times.map((time) => flow(node, `${time}`, time)));
  };
/** Until the call is over. */
export const forever = (signal: AbortSignal) =>
  new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
