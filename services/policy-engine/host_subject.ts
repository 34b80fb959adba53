/** Whether policies are about hosts: such a one may cut off the person who applies it. @module */
import type { Policy } from "./policy.ts";

/** Whether some rule selects hosts. */
export function selectsHost({ rules }: Pick<Policy, "rules">): boolean {
  return rules.some(({ isForHosts }) => isForHosts === true);
}
