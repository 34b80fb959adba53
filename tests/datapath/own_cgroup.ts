/** The cgroup of the test itself. @module */
import { cgroupRootHere } from "../cgroup_root.ts";

/** Cgroup id of this very process, under whose cgroup test runs of cgroup programs happen. */
export function ownCgroup(): bigint | undefined {
  const root = cgroupRootHere();
  const path = Deno.readTextFileSync("/proc/self/cgroup").split("\n")
    .find((line) => line.startsWith("0::"))?.slice(3);
  return root && path ? BigInt(Deno.statSync(`${root}${path}`).ino!) : undefined;
}
