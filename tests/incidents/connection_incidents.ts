/** Incidents in which policy allows and the connection fails all the same. @module */
import { HTTP, pod, serves } from "./cast.ts";
import type { Incident } from "./incident.ts";

const knock = new URL("../e2e/testdata/knock.py", import.meta.url).pathname;
const ask = (to: string, port = "8080") => ["explain", "--from", "shop/client", "--to", to, "-p", port];
const traffic = (to: string, port = 8080) => [`from: shop/client, to: ${to}, port: ${port}`];
/** A command on a node or in a pod of the lab. */
const at = (...words: string[]) => ["lab", "exec", ...words];
const LISTENS =
  "import socket,os,signal,time; s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); s.bind(('0.0.0.0',8080)); s.listen(0);";

const MUTE =
  "import socket,time; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('0.0.0.0',5353)); time.sleep(1e6)";
const SIX =
  "import socket,time; s=socket.socket(socket.AF_INET6); s.setsockopt(41,26,1); s.bind(('::',8080)); s.listen(9); time.sleep(1e6)";

export const CONNECTION_INCIDENTS: readonly Incident[] = [
  {
    name: "nothing listens on the port",
    manifests: pod("idle", 2, "app: idle", "[sleep, infinity]"),
    traffic: traffic("shop/idle"),
    ask: ask("shop/idle"),
    says: [
      /ALLOWED, and it FAILS: shop\/idle: nothing listens on 8080\/TCP/,
      /refused \d+ s ago by the endpoint itself/,
    ],
    code: 4,
    fix: { says: /Start what is to listen there/, replace: ["[sleep, infinity]", serves("8080/TCP")] },
  },
  {
    name: "the process listens on another port",
    manifests: pod("other", 2, "app: other", serves("8081/TCP")),
    traffic: traffic("shop/other"),
    ask: ask("shop/other"),
    says: [/nothing listens on 8080\/TCP; python3\S* \(pid \d+\) listens on 0\.0\.0\.0:8081\/TCP/],
    code: 4,
    fix: { says: /8081/, replace: ["8081/TCP", "8080/TCP"] },
  },
  {
    name: "the process listens for itself only",
    manifests: pod("inward", 2, "app: inward", `[python3, -m, http.server, "8080", --bind, 127.0.0.1]`),
    traffic: traffic("shop/inward"),
    ask: ask("shop/inward"),
    says: [/listens on 127\.0\.0\.1:8080\/TCP only/, /Let it listen on 0\.0\.0\.0/],
    code: 4,
    fix: { says: /0\.0\.0\.0/, replace: ["--bind, 127.0.0.1", "--bind, 0.0.0.0"] },
  },
  {
    name: "the process is stopped and its backlog full",
    manifests: pod("stuck", 2, "app: stuck", `[python3, -c, "${LISTENS} time.sleep(1e6)"]`),
    setup: [at("shop/client", "--", "python3", knock, "address-of:shop/stuck", "tcp", "4", "2.5")],
    traffic: traffic("shop/stuck"),
    ask: ask("shop/stuck"),
    says: [
      /takes no connections: \d+ wait to be accepted and its backlog is 0/,
      /stopped or too busy to accept/,
    ],
    code: 4,
    fix: {
      says: /Look at the process \d+/,
      replace: [`[python3, -c, "${LISTENS} time.sleep(1e6)"]`, serves("8080/TCP")],
    },
  },
  {
    name: "answers are lost on the way back",
    setup: [
      at("--node", "node-2", "--", "iptables", "-I", "OUTPUT", "-p", "udp", "--dport", "8472", "-j", "DROP"),
    ],
    cleanup: [
      at("--node", "node-2", "--", "iptables", "-D", "OUTPUT", "-p", "udp", "--dport", "8472", "-j", "DROP"),
    ],
    traffic: traffic("shop/web-2"),
    ask: ask("shop/web-2"),
    // What a connection met, or what the probes between the nodes did.
    says: [
      /node-2 saw the answer leave, and node-1 did not get it .*lost on the way back|do not get through from node-2 to node-1/,
    ],
    code: 4,
    fix: {
      says:
        /the way from node-2 to node-1: routes, firewall, UDP port 8472|Let UDP port 8472 through from node-2/,
      run: [at("--node", "node-2", "--", "iptables", "-F", "OUTPUT")],
    },
  },
  {
    name: "nothing arrives at the other node",
    setup: [
      at("--node", "node-1", "--", "iptables", "-I", "OUTPUT", "-p", "udp", "--dport", "8472", "-j", "DROP"),
    ],
    cleanup: [
      at("--node", "node-1", "--", "iptables", "-D", "OUTPUT", "-p", "udp", "--dport", "8472", "-j", "DROP"),
    ],
    traffic: traffic("shop/web-2"),
    ask: ask("shop/web-2"),
    says: [
      /node-2 saw nothing arrive: it is lost on the way there|do not get through from node-1 to node-2/,
    ],
    code: 4,
    fix: {
      says:
        /the way from node-1 to node-2: routes, firewall, UDP port 8472|Let UDP port 8472 through from node-1/,
      run: [at("--node", "node-1", "--", "iptables", "-F", "OUTPUT")],
    },
  },
  {
    name: "the pod's device is down",
    manifests: pod("quiet", 2, "app: quiet", serves("8080/TCP")),
    setup: [at("shop/quiet", "--", "ip", "link", "set", "eth0", "down")],
    traffic: traffic("shop/quiet"),
    ask: ask("shop/quiet"),
    says: [/network shop\/quiet: FAILS/, /its device eth0 is down/],
    code: 4,
    fix: { says: /In its namespace: (ip [^;\n]+)/, inPod: "shop/quiet" },
  },
  {
    name: "the client has no route",
    setup: [at("shop/client", "--", "ip", "route", "del", "default")],
    traffic: traffic("shop/web-2"),
    ask: ask("shop/web-2"),
    says: [/network shop\/client: FAILS/, /no IPv4 route to others/],
    code: 4,
    fix: { says: /In its namespace: (ip [^;\n]+)/, inPod: "shop/client" },
  },
  {
    name: "the process died and nobody starts it",
    manifests: pod(
      "dying",
      2,
      "app: dying",
      `[python3, -c, "import time; time.sleep(2); raise SystemExit(1)"]`,
      HTTP,
    ),
    traffic: traffic("shop/dying"),
    ask: ["lab", "status"],
    says: [/shop +dying .*RESTARTS|RESTARTS[\s\S]*dying/],
  },
  {
    name: "who spoofs is found by its own name",
    setup: [
      at("shop/client", "--", "python3", knock, "address-of:shop/web-2", "spoof", "address-of:shop/web-1"),
    ],
    ask: ["observe", "--from-pod", "shop/client", "--verdict", "DROPPED", "--last", "20"],
    says: [/shop\/client.*INVALID_SOURCE_IP|shop\/client[\s\S]*[Ii]nvalid source/],
  },
  {
    name: "the process listens for IPv6 only",
    manifests: pod("six", 2, "app: six", `[python3, -c, "${SIX}"]`),
    traffic: traffic("shop/six"),
    ask: ask("shop/six"),
    says: [/listens on \[::\]:8080\/TCP for IPv6 only: connections to 10\.0\.\d+\.\d+ are refused/],
    code: 4,
    fix: {
      says: /Let it listen on 0\.0\.0\.0 too/,
      replace: [`[python3, -c, "${SIX}"]`, serves("8080/TCP")],
    },
  },
  {
    name: "a UDP server takes what comes and answers nothing",
    manifests: pod("mute", 2, "app: mute", `[python3, -c, "${MUTE}"]`),
    setup: [at("shop/client", "--", "python3", knock, "address-of:shop/mute", "udp", "1", "0.2", "5353")],
    ask: ask("shop/mute", "5353/UDP"),
    says: [
      /listens on 0\.0\.0\.0:5353\/UDP/,
      /no answer came .*, and it arrived: the far end does not answer/,
    ],
    code: 4,
  },
  {
    name: "no way leads to an address outside of the cluster",
    setup: [at("shop/client", "--", "python3", knock, "203.0.113.77", "tcp", "no", "80")],
    ask: ask("203.0.113.77", "80"),
    says: [
      /172\.30\.0\.100 said \d+ s ago that it cannot deliver: no route to that network/,
      /nobody in this cluster has this address/,
      /Look at the routes and the firewall of 172\.30\.0\.100/,
    ],
    code: 4,
  },
  {
    name: "a host outside of the cluster refuses",
    setup: [at("shop/client", "--", "python3", knock, "198.51.100.10", "tcp", "no", "81")],
    ask: ask("198.51.100.10", "81"),
    says: [/it left the cluster, and 198\.51\.100\.10 \(or a firewall in front of it\) said no/],
    saysNot: [/between the nodes/],
    code: 4,
  },
  {
    name: "the address is one that a pod had",
    ask: ask("10.0.1.200"),
    says: [/nobody has this address: it is of the pods of node-\d \(10\.0\.1\.0\/24\), .*is gone/],
    code: 4,
  },
  {
    name: "what listens on a node itself is not known to Weir",
    ask: ask("node-2", "4444"),
    says: [/ALLOWED by policy; not everything on the way is known/, /ss -ln on node-2/],
    code: 0,
  },
  {
    name: "a node has no way out",
    setup: [
      at("--node", "node-1", "--", "ip", "route", "add", "unreachable", "198.51.100.0/24"),
      at("shop/client", "--", "python3", knock, "198.51.100.10", "tcp", "no", "80"),
    ],
    cleanup: [at("--node", "node-1", "--", "ip", "route", "del", "unreachable", "198.51.100.0/24")],
    ask: ask("198.51.100.10", "80"),
    says: [
      /node-1 \(\S+\) said \d+ s ago that it cannot deliver: no route to that/,
      /Look at the routes .* of node-1/,
    ],
    code: 4,
  },
];
