/** The cgroup of the test itself. @module */
import { cgroupRootHere } from "../cgroup_root.ts";

/** Cgroup id of this very process, under whose cgroup test runs of cgroup programs happen. */
export function ownCgroup(): bigint | undefined {
  const path = ownPath();
  return path === undefined ? undefined : BigInt(Deno.statSync(path).ino!);
}

/** Makes a control group below this process's own. @returns its path; who made it removes it */
export function newCgroup(name: string): string {
  const own = ownPath();
  if (own === undefined) throw new Error("Cannot make a control group: no unified hierarchy of cgroups");
  const made = `${own}/wt-${name}-${Deno.pid}-${crypto.randomUUID().slice(0, 8)}`;
  Deno.mkdirSync(made);
  return made;
}

function ownPath(): string | undefined {
  const root = cgroupRootHere();
  const path = Deno.readTextFileSync("/proc/self/cgroup").split("\n")
    .find((line) => line.startsWith("0::"))?.slice("0::".length);
  return root && path ? `${root}${path}` : undefined;
}
