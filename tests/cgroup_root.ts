/** Where this machine has control groups of version 2. @module */
import { cgroupRoot } from "../datapath/service/kernel/cgroup.ts";

/** The unified hierarchy: alone, or beside version 1. */
export function cgroupRootHere(): string | undefined {
  return cgroupRoot(Deno.readTextFileSync("/proc/self/mountinfo"));
}
