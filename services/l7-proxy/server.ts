/** The HTTP face of the proxy. @module */
import type { ApiServer } from "@weir/common";
import { ProxyConnection, ProxyEndpoint, ProxyPolicy } from "@weir/proto/proxy";
import type { Proxy } from "./proxy.ts";
import type { RuleBook } from "./rule_book.ts";

/** A policy may have as many entries as the datapath's, each with its rules. */
const POLICY_BYTES_MAX = 32 * 1024 * 1024;

/** Adds the routes: `/v1/policies`, `/v1/endpoints`, which the endpoint manager writes, and `/v1/connections`. */
export function mountProxy(api: ApiServer, book: RuleBook, proxy: Proxy): void {
  api.collection({
    name: "policies",
    message: ProxyPolicy,
    table: book.policies,
    put: (name, policy) => book.putPolicy(name, policy),
    delete: (name) => book.deletePolicy(name),
    bodyBytesMax: POLICY_BYTES_MAX,
    description: "What requests are judged by; in force for the next request when the answer is there",
  });
  api.collection({
    name: "endpoints",
    message: ProxyEndpoint,
    table: book.endpoints,
    put: (name, endpoint) => book.putEndpoint(name, endpoint),
    delete: (name) => book.deleteEndpoint(name),
    description: "Endpoints of this node whose policy has rule sets",
  });
  api.collection({
    name: "connections",
    message: ProxyConnection,
    list: () => proxy.list(),
    get: (name) => proxy.list().find((connection) => connection.name === name),
    description: "Redirected connections that are open now",
  });
}
