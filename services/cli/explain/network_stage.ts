/** What became of the network in an endpoint's own namespace, for a connection. Pure. @module */
import type { EndpointNetwork } from "@weir/proto/datapath";
import { type Stage, stage } from "./stage.ts";

/** What is asked of the network of one end. */
export interface NetworkQuestion {
  readonly title: string;
  readonly network: EndpointNetwork;
  /** The endpoint's own at which the connection begins or ends; undefined: any. */
  readonly address?: string;
}

/** Says what somebody took away; nothing where all is as it was given. */
export function networkStages({ title, network, address }: NetworkQuestion): Stage[] {
  const { device, state, absentAddresses, absentRoutes, hostDevice, hostState, gateways } = network;
  const broken = (message: string, fix: string) => [
    stage("network", title, "broken", message, { fixes: [fix, ANEW] }),
  ];
  const family = address === undefined ? undefined : address.includes(":") ? "IPv6" : "IPv4";
  if (state === "missing") {
    return [
      stage("network", title, "broken", `its device ${device} is gone from its namespace`, { fixes: [ANEW] }),
    ];
  }
  if (state === "down") {
    return broken(
      `its device ${device} is down: somebody in its namespace took it down`,
      `In its namespace: ip link set ${device} up; ask once more then: its routes went with it`,
    );
  }
  if (hostState !== "up") {
    return broken(
      `${hostDevice}, the node's end of its device, is ${hostState}`,
      `On its node: ip link set ${hostDevice} up`,
    );
  }
  const gone = absentAddresses.filter((one) => address === undefined || one === address);
  if (gone.length > 0) {
    return broken(
      `its device ${device} does not have ${gone.join(", ")}, the address it was given`,
      `In its namespace: ip address add ${gone[0]}/${gone[0].includes(":") ? 128 : 32} dev ${device}`,
    );
  }
  const lost = absentRoutes.filter((one) => family === undefined || one === family);
  if (lost.length > 0) {
    const via = gateways.find((one) => one.includes(":") === (lost[0] === "IPv6"));
    return broken(
      `its namespace has no ${lost.join(" and ")} route to others: what it sends goes nowhere`,
      `In its namespace: ip route add default via ${via ?? "its gateway"} dev ${device} onlink`,
    );
  }
  return [];
}

const ANEW = "Make the pod, or the endpoint, anew: it gets its network then";
