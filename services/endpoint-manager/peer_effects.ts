/**
 * What follows from a peer that does not answer, in words for people. Pure.
 * @module
 */
import type { PeerStatusState } from "@weir/proto/endpoint";

/** The peers of a node. */
export type PeerName =
  | "identity-allocator"
  | "policy-engine"
  | "load-balancer"
  | "kubernetes"
  | "datapath"
  | "l7-proxy";

/** What is known of a peer when its effect is told. */
export interface PeerSituation {
  state: PeerStatusState;
  /** Since when, as "HH:MM:SS" (UTC). */
  since: string;
  /** When it was heard last, as "HH:MM:SS" (UTC), or "never". */
  lastHeard: string;
  /** Newest policy revision in force here; 0: not known. */
  policyRevision: number;
  nodeName: string;
  /** Code of the error that the state comes from; "" when there is none. */
  code: string;
}

/** What follows for traffic and for people. */
export function effectOf(peer: PeerName, situation: PeerSituation): string {
  const { state, lastHeard, policyRevision, nodeName, code } = situation;
  const asOf = lastHeard === "never" ? "" : ` of ${lastHeard}`;
  // It answers, and will never say more to this machine.
  if (code === "CERTIFICATE_REMOVED" && peer !== "datapath" && peer !== "l7-proxy") {
    return `${nodeName} is no member any more: it hears of no change of policies, identities and services; ` +
      "what is in its kernel goes on until weir cluster leave --force and weir uninstall, or weir join";
  }
  switch (peer) {
    case "identity-allocator":
      return state === "STALE"
        ? `${nodeName} fills it again; addresses that it has lost stay in force until their nodes name them again or the grace ends`
        : `new endpoints of ${nodeName} wait for an identity and pass nothing; other nodes are known as${
          asOf || " they were"
        }; running traffic and policies go on`;
    case "policy-engine":
      return `new policies do not reach ${nodeName} since ${
        lastHeard === "never" ? situation.since : lastHeard
      }; ` +
        (policyRevision === 0
          ? "what its kernel has stays in force"
          : `what is in force there is revision ${policyRevision}`);
    case "load-balancer":
      return `changes of services do not reach ${nodeName}; those${asOf} are served on, also to backends that are gone since`;
    case "kubernetes":
      return `new pods of ${nodeName} wait until it is known who they are, and changed labels of pods do not reach it; what runs goes on as${
        asOf || " it was"
      }`;
    case "l7-proxy":
      return `connections of ${nodeName} that L7 rules are about are refused; all others go on, and policies with other L7 rules wait`;
    case "datapath":
      return `nothing can be changed in the kernel of ${nodeName}; what is there goes on: traffic, policies, services as${
        asOf || " they were"
      }`;
  }
}
