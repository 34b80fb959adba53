/** Whom the resident page asks how everything is: sockets that only answer, never those that change something. @module */
import type { WeirClient } from "@weir/client";
import type { StatusTargets } from "@weir/client/status";
import { ProblemError } from "@weir/common";

/** Where they are. */
export interface ReadingTargetParts {
  /** NAME=DIRECTORY of each node. */
  readonly nodes: readonly string[];
  /** Services of the cluster by name; "": there is none. */
  readonly cluster: Readonly<Record<string, string>>;
  readonly connect: (address: string) => WeirClient;
}

/** The targets. The agents say how services are: their sockets are not for a reader. @throws {ProblemError} NODE_INVALID */
export function readingTargets({ nodes, cluster, connect }: ReadingTargetParts): StatusTargets {
  const directories = new Map(nodes.map((text): [string, string] => {
    const at = text.indexOf("=");
    if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
    throw new ProblemError("NODE_INVALID", {
      detail: `Cannot take node ${JSON.stringify(text)}`,
      expected: "NAME=DIRECTORY",
    });
  }));
  const socketOf = (service: string, node: string) => {
    const directory = directories.get(node)!;
    // The agent's API has nothing that changes anything.
    return `unix:${directory}/${service === "agent" ? "agent" : `${service}-read`}.sock`;
  };
  return {
    nodes: [...directories.keys()].map((node) => ({ node })),
    client: (service, node) => connect(node === undefined ? cluster[service] : socketOf(service, node.node)),
    clientAt: (service, { node }) => connect(socketOf(service, node)),
  };
}
