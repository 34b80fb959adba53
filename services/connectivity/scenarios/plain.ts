/** Scenarios without policies: pods, nodes, services, the world. @module */
import { HOST_HTTP, HOST_PORT, HTTP } from "../pods.ts";
import {
  type Action,
  balancer,
  node,
  nodePort,
  pod,
  type Scenario,
  service,
  type Source,
  world,
} from "../scenario.ts";
import type { Protocol } from "../traffic.ts";

const CLIENT: Source = { pod: "client" };
const TWO_NODES = { nodes: 2 }, OUTSIDE = { outside: true };
const ANSWERED = { kind: "answered" } as const;

/** TCP, UDP and ICMP from one to a pod that answers with its name. */
function everyProtocol(from: Source, to: string, keepsSource = true): Action[] {
  return (["TCP", "UDP", "ICMP"] as Protocol[]).map((protocol) => ({
    from,
    to: pod(to, protocol === "ICMP" ? 0 : HTTP),
    protocol,
    expect: { ...ANSWERED, ...(protocol === "ICMP" ? {} : { by: [to], keepsSource }) },
  }));
}

/** Connections to a service: more than enough that both of two backends get some. */
const MANY = 24;

/** Scenarios that disturb nobody: they run side by side. */
export const PLAIN_SCENARIOS: readonly Scenario[] = [
  {
    name: "pod-to-pod-same-node",
    says: "pods of one node reach each other, by their own addresses",
    actions: everyProtocol(CLIENT, "echo-same"),
  },
  {
    name: "pod-to-pod-other-node",
    says: "pods of two nodes reach each other, by their own addresses",
    needs: TWO_NODES,
    actions: everyProtocol(CLIENT, "echo-other"),
  },
  {
    name: "client-to-client",
    says: "pods that listen on nothing answer echo requests",
    actions: [
      { from: CLIENT, to: pod("client3", 0), protocol: "ICMP", expect: ANSWERED },
      { from: { pod: "client3" }, to: pod("client", 0), protocol: "ICMP", expect: ANSWERED },
    ],
  },
  {
    name: "pod-to-own-host",
    says: "a pod reaches its own node and what listens there",
    actions: [
      { from: CLIENT, to: node(0), protocol: "ICMP", expect: ANSWERED },
      {
        from: CLIENT,
        to: pod("echo-host-1", HOST_HTTP),
        protocol: "TCP",
        expect: { ...ANSWERED, by: ["echo-host-1"] },
      },
    ],
  },
  {
    name: "pod-to-other-host",
    says: "a pod reaches another node and what listens there",
    needs: TWO_NODES,
    actions: [
      { from: CLIENT, to: node(1), protocol: "ICMP", expect: ANSWERED },
      {
        from: CLIENT,
        to: pod("echo-host-2", HOST_HTTP),
        protocol: "TCP",
        expect: { ...ANSWERED, by: ["echo-host-2"] },
      },
    ],
  },
  {
    name: "host-to-pod-same-node",
    says: "a node reaches its own pods",
    actions: everyProtocol({ node: 0 }, "echo-same", false),
  },
  {
    name: "host-to-pod-other-node",
    says: "a node reaches pods of another node",
    needs: TWO_NODES,
    actions: everyProtocol({ node: 0 }, "echo-other", false),
  },
  {
    name: "pod-to-service",
    says: "connections to a cluster IP are spread over its backends",
    actions: [{
      from: CLIENT,
      to: service("echo"),
      protocol: "TCP",
      count: MANY,
      expect: { ...ANSWERED, by: ["echo-same", "echo-other"], share: "all", keepsSource: true },
    }],
  },
  {
    name: "host-to-service",
    says: "a node reaches a cluster IP",
    actions: [{
      from: { node: 0 },
      to: service("echo"),
      protocol: "TCP",
      expect: { ...ANSWERED, by: ["echo-same", "echo-other"] },
    }],
  },
  {
    name: "session-affinity",
    says: "connections of one client to a service with session affinity go to one backend",
    actions: [{
      from: CLIENT,
      to: service("sticky"),
      protocol: "TCP",
      count: MANY,
      expect: { ...ANSWERED, by: ["echo-same", "echo-other"], share: "one" },
    }],
  },
  {
    name: "service-hairpin",
    says: "a pod reaches itself by its own service",
    actions: [{
      from: { pod: "loop" },
      to: service("loop"),
      protocol: "TCP",
      expect: { ...ANSWERED, by: ["loop"] },
    }],
  },
  {
    name: "service-without-backends",
    says: "a service without backends is refused, and the drop says so",
    actions: [{
      from: CLIENT,
      to: service("nobody"),
      protocol: "TCP",
      expect: { kind: "dropped", side: "egress", reason: "SERVICE_BACKEND_NOT_FOUND" },
    }],
  },
  {
    name: "pod-to-local-nodeport",
    says: "a pod reaches a node port at its own node",
    actions: [{
      from: CLIENT,
      to: nodePort("echo", 0),
      protocol: "TCP",
      expect: { ...ANSWERED, by: ["echo-same", "echo-other"] },
    }],
  },
  {
    name: "pod-to-remote-nodeport",
    says: "a pod reaches a node port at another node",
    needs: TWO_NODES,
    actions: [{
      from: CLIENT,
      to: nodePort("echo", 1),
      protocol: "TCP",
      expect: { ...ANSWERED, by: ["echo-same", "echo-other"] },
    }],
  },
  {
    name: "pod-to-hostport",
    says: "a pod reaches the host port of a pod at that one's node",
    needs: TWO_NODES,
    actions: [{
      from: CLIENT,
      to: node(1, HOST_PORT),
      protocol: "TCP",
      expect: { ...ANSWERED, by: ["echo-other"] },
    }],
  },
  {
    name: "outside-to-nodeport",
    says: "a machine beyond the nodes reaches a node port at every node, wherever the backend is",
    needs: { ...TWO_NODES, ...OUTSIDE },
    actions: [0, 1].map((index) => ({
      from: "outside",
      to: nodePort("echo-one", index),
      protocol: "TCP",
      expect: { ...ANSWERED, by: ["echo-other"] },
    })),
  },
  {
    name: "pod-to-loadbalancer",
    says: "a pod reaches a service's address of a load balancer",
    actions: [{
      from: CLIENT,
      to: balancer("balanced"),
      protocol: "TCP",
      expect: { ...ANSWERED, by: ["echo-other"] },
    }],
  },
  {
    name: "outside-to-loadbalancer",
    says:
      "a machine beyond the nodes reaches a service's address of a load balancer by a node that has no backend",
    needs: OUTSIDE,
    actions: [{
      from: "outside",
      to: balancer("balanced"),
      protocol: "TCP",
      expect: { ...ANSWERED, by: ["echo-other"] },
    }],
  },
  {
    name: "outside-to-pod",
    says: "a machine beyond the nodes reaches a pod through its node",
    needs: OUTSIDE,
    actions: everyProtocol("outside", "echo-same"),
  },
  {
    name: "pod-to-world",
    says: "a pod reaches the world",
    needs: OUTSIDE,
    actions: [
      { from: CLIENT, to: world(0, HTTP), protocol: "TCP", expect: { ...ANSWERED, by: ["world"] } },
      { from: CLIENT, to: world(0, HTTP), protocol: "UDP", expect: { ...ANSWERED, by: ["world"] } },
      { from: CLIENT, to: world(1), protocol: "ICMP", expect: ANSWERED },
    ],
  },
  {
    name: "large-packets",
    says:
      "packets as large as a pod's device takes them reach other pods without fragments, and long answers come whole",
    actions: ["echo-same", "echo-other"].flatMap((to): Action[] => [
      { from: CLIENT, to: pod(to, 0), protocol: "ICMP", bytes: "mtu", expect: ANSWERED },
      { from: CLIENT, to: pod(to, HTTP), protocol: "TCP", bytes: 1 << 20, expect: { ...ANSWERED, by: [to] } },
    ]),
  },
];
