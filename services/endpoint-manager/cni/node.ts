/** What CNI needs of this node: the endpoint manager has it. @module */
import type { WatchedTable } from "@weir/common";
import type { DatapathEndpoint } from "@weir/proto/datapath";
import type { Endpoint } from "@weir/proto/endpoint";
import type { Gateways } from "./result.ts";

/** See `EndpointManager`. */
export interface CniNode {
  readonly table: { readonly view: WatchedTable<Endpoint> };
  readonly gateways: Gateways;
  /** @throws {ProblemError} */
  put(name: string, given: Endpoint): Promise<Endpoint>;
  /** Waits until the kernel has let go of it. @throws {ProblemError} NOT_FOUND, DELETE_PENDING */
  delete(name: string): Promise<void>;
  /** Begins to delete it, for good. @throws {ProblemError} NOT_FOUND, ENDPOINT_STORE_FAILED */
  beginDelete(name: string): Promise<void>;
  /** What it cannot do yet, for people; empty: endpoints can be added. */
  waitingFor(): string[];
  /** The endpoint as the datapath has it; undefined: it has none, or was not heard yet. */
  inKernel(name: string): DatapathEndpoint | undefined;
}
