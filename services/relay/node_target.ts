/** Where the Observer of each node is, and who is believed there. @module */
import {
  assertObserver,
  HUBBLE_PORT,
  OBSERVER_NAME,
  type ObserverTrust,
  ProblemError,
  type TlsFiles,
} from "@weir/common";
import type { Node } from "@weir/proto/identity";
import type { NodeTarget } from "./node_link.ts";

/** What is configured. */
export interface TargetConfig {
  /** NAME=PATH: nodes of this host, and of a lab. */
  readonly sockets: readonly string[];
  /** For the others: what is shown there, and what they are judged by. Absent: this control plane has no other machines. */
  readonly cluster?: { readonly files: TlsFiles; readonly trust: ObserverTrust };
}

/** Reads the configuration. @throws {ProblemError} RELAY_NODE_INVALID */
export function nodeTargets({ sockets, cluster }: TargetConfig): (node: Node) => NodeTarget {
  const paths = new Map(sockets.map((text): [string, string] => {
    const [, name, path] = /^([^=]+)=(\/.+)$/.exec(text) ?? [];
    if (name !== undefined) return [name, path];
    throw new ProblemError("RELAY_NODE_INVALID", {
      detail: "Cannot read where a node is",
      found: text.slice(0, 200),
      expected: "NAME=PATH of its unix socket",
    });
  }));
  return ({ name, ipv4, ipv6 }) => {
    const path = paths.get(name), hostname = ipv4 || ipv6;
    if (path !== undefined) return { address: { path } };
    if (cluster === undefined || hostname === "") {
      throw new ProblemError("RELAY_NO_WAY", {
        status: 503,
        detail: `Cannot reach the flows of ${name}: ${
          cluster === undefined ? "the control plane has no certificates" : "it has no address"
        }`,
        action:
          "A cluster of several machines has them: weir agent --control-plane --listen ADDRESS, weir join",
      });
    }
    const { files, trust } = cluster;
    const tls = () => {
      const own = files.get(trust.clock.monotonicMs()), { cert, key, authority } = own;
      const check = (certificate: Parameters<typeof assertObserver>[0]) =>
        assertObserver(certificate, own, trust, name);
      return { cert, key, authority, serverName: OBSERVER_NAME, check };
    };
    return { address: { hostname, port: HUBBLE_PORT }, tls };
  };
}
