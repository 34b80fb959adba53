/** A policy as the database has it, read anew. @module */
import { formatFault } from "@weir/common/manifest";
import type { Policy as PolicyMessage } from "@weir/proto/policy";
import { readManifests } from "./manifest.ts";
import type { Policy } from "./policy.ts";

/** The policy, or why it cannot be read. */
export function readStored(message: PolicyMessage, cluster: string): Policy | string {
  const { policies, faults } = readManifests(message.manifest, {
    file: message.file,
    line: Math.max(1, message.line),
    namespace: message.namespace || undefined,
    cluster,
    isStored: true,
  });
  const policy = policies.find(({ name }) => name === message.name);
  return policy ?? (faults[0] ? formatFault(faults[0], message.file) : "it holds another policy");
}
