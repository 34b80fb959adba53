/** Where this machine has control groups of version 2. @module */
import { cgroupRoot } from "@weir/common";

/** The unified hierarchy: alone, or beside version 1. */
export function cgroupRootHere(): string | undefined {
  return cgroupRoot(Deno.readTextFileSync("/proc/self/mountinfo"));
}
