/** Members of the cluster: machines that have, or had, a certificate. @module */
import type { Member } from "@weir/proto/certificate";

/** Name of the watched collection. */
export const MEMBERS = "members";
/** Machines that one cluster takes. */
export const MEMBERS_MAX = 20_000;

/** Whether the newest certificate of a member is believed, dates apart. */
export function isMember(member: Member): boolean {
  return member.issuedUnixS > member.removedUnixS;
}
