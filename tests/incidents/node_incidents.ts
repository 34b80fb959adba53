/** Incidents of Weir itself and of those who ask it. @module */
import { policy, TRAFFIC, WEB, WHY } from "./cast.ts";
import type { Incident } from "./incident.ts";

const stop = (
  service: string,
  node: string,
) => ["lab", "exec", "--node", node, "--", "kill", "-STOP", `pid-of:${service}@${node}`];
const go = (
  service: string,
  node: string,
) => ["lab", "exec", "--node", node, "--", "kill", "-CONT", `pid-of:${service}@${node}`];

const POLICY_FILE = new URL("closed-web.yaml", import.meta.url).pathname;
/** A command on a node of the lab. */
const at = (node: string, command: string) => ["lab", "exec", "--node", node, "--", ...command.split(" ")];
/** Of node-1, about what comes from node-2. */
const loses = (how: string) =>
  at("node-1", `iptables ${how} INPUT -s 172.30.0.12 -m statistic --mode random --probability 0.4 -j DROP`);
const blocks = (how: string) => at("node-1", `iptables ${how} OUTPUT -p udp --dport 8472 -j DROP`);

export const NODE_INCIDENTS: readonly Incident[] = [
  {
    name: "the datapath of a node stands still",
    setup: [stop("datapath", "node-2")],
    cleanup: [go("datapath", "node-2")],
    ask: ["status"],
    says: [
      /node-2: HUNG: datapath: .*does not answer.*; traffic and policy of node-2 go on as they are/,
      /to do: its agent starts it anew/,
      /Weir is not well: node-2: hung: datapath/,
    ],
    saysNot: [/Weir is ready/],
    code: 1,
  },
  {
    name: "the policy engine stands still",
    setup: [stop("policy-engine", "node-1")],
    cleanup: [go("policy-engine", "node-1")],
    ask: ["policy", "list"],
    says: [/policy-engine.*does not answer|does not answer.*policy-engine/],
    code: 1,
  },
  {
    name: "nothing runs where it is asked",
    ask: ["--server", "unix:/run/weir/nowhere/agent.sock", "endpoint", "list"],
    says: [/start.*weir agent|weir agent.*start/i],
    code: 1,
  },
  {
    name: "an endpoint is added for a namespace that is not there",
    ask: ["endpoint", "add", "ghost", "--netns", "/run/netns/no-such-namespace", "--node", "node-1"],
    cleanup: [["endpoint", "delete", "ghost", "--node", "node-1"]],
    says: [/no-such-namespace/],
  },
  {
    name: "a verdict that there is not",
    ask: ["observe", "--verdict", "DENIED"],
    says: [/DENIED/, /DROPPED/],
    code: 2,
  },
  {
    name: "a command with a typo",
    ask: ["polcy", "list"],
    says: [/did you mean.*policy/i],
    code: 2,
  },
  {
    name: "a flag with a typo",
    ask: ["policy", "list", "--namspace", "shop"],
    says: [/namespace/],
    code: 2,
  },
  {
    name: "a pod name with a typo",
    ask: ["explain", "--from", "shop/cleint", "--to", "shop/web-1", "-p", "8080"],
    says: [/Cannot find "shop\/cleint"/, /did you mean shop\/client\?/],
    code: 2,
  },
  {
    // Which direction it is takes a window without what earlier incidents lost: node_paths_test.ts has that.
    name: "way between nodes: packets are lost",
    setup: [loses("-I")],
    cleanup: [loses("-D")],
    ask: ["status"],
    says: [
      /node-1: DEGRADED: way to node-2: \d+ % of the packets are lost (from node-2 to node-1|between node-1 and node-2)/,
      /Weir is not well: node-1: degraded: way to node-2/,
    ],
    saysNot: [/Weir is ready/],
    code: 1,
    fix: {
      says: /to do: look at the link .*: .*firewalls that limit rates/,
      run: [at("node-1", "iptables -F INPUT")],
    },
  },
  {
    name: "way between nodes: large packets are lost without a word",
    setup: [at("node-2", "ip link set eth0 mtu 1400")],
    cleanup: [at("node-2", "ip link set eth0 mtu 1500")],
    ask: ["status"],
    says: [
      // A veth takes four bytes more than its MTU.
      /node-1: DEGRADED: way to node-2: packets of pods larger than 135[04] bytes are lost from node-1 to node-2/,
      /lower pods' on all nodes: weir agent --mtu 140[04]/,
    ],
    code: 1,
    fix: {
      says: /set the MTU of every device from node-1 to node-2 to 1500 or more/,
      run: [at("node-2", "ip link set dev eth0 mtu 1500")],
    },
  },
  {
    name: "way between nodes: one direction is dead",
    setup: [at("node-1", "ip neigh replace 172.30.0.12 lladdr 02:00:00:00:00:99 dev eth0 nud permanent")],
    cleanup: [at("node-1", "ip neigh del 172.30.0.12 dev eth0")],
    traffic: TRAFFIC,
    ask: ["status"],
    says: [
      /node-1: DEGRADED: way to node-2: nothing gets through from node-1 to node-2; the other direction works/,
      /pods of node-1 and node-2 do not reach each other/,
    ],
    code: 1,
    fix: {
      says: /look at the way from node-1 to node-2: ip route and ip neigh on node-1/,
      run: [at("node-1", "ip neigh del 172.30.0.12 dev eth0")],
    },
  },
  {
    name: "way between nodes: the tunnel's port is closed",
    setup: [blocks("-I")],
    cleanup: [blocks("-D")],
    traffic: TRAFFIC,
    ask: ["status"],
    says: [/packets of pods do not get through from node-1 to node-2, though the nodes reach each other/],
    code: 1,
    fix: {
      says: /let UDP port 8472 through from node-1 to node-2/,
      run: [at("node-1", "iptables -F OUTPUT")],
    },
  },
  {
    name: "a denial in observe names rule, side and file",
    manifests: policy("web", `{ ${WEB}, ingress: [{}] }`),
    traffic: ["from: shop/client, to: shop/web-2, port: 8080"],
    ask: ["observe", "--verdict", "DROPPED", "--to-pod", "shop/web-2", "--last", "5"],
    says: [/INGRESS DROPPED BY default deny of shop\/web \(CiliumNetworkPolicy \S+:\d+\)/],
  },
  {
    name: "a policy is not in force yet where it is decided",
    setup: [stop("datapath", "node-2"), ["policy", "apply", "--no-wait", "-f", POLICY_FILE]],
    cleanup: [go("datapath", "node-2")],
    ask: WHY,
    says: [
      /DENIED, and not in force at node-2 yet/,
      /the newest policies are not in force at node-2/,
    ],
    code: 3,
  },
  {
    name: "a flag of TCP that there is not",
    ask: ["observe", "--tcp-flags", "SYN,ACKK"],
    says: [/SYN,ACKK.*expected FIN, SYN, RST/],
    code: 2,
  },
  {
    name: "a protocol that there is not",
    ask: ["observe", "--protocol", "tpc"],
    says: [/tpc.*expected .*tcp/],
    code: 2,
  },
];
