/**
 * Help of `weir endpoint`.
 *
 * @module
 */
import { type Manual, NAMESPACE, OUTPUT } from "./manual.ts";

/** Help of `weir endpoint`. */
export const ENDPOINT: Manual = {
  summary: "workloads on the nodes: list, get, add, delete, label, config, pool",
  verbs: {
    list: {
      says: "Lists the endpoints of every node that is meant.",
      flags: {
        ...NAMESPACE,
        "-l, --selector KEY=VALUE[,...]": "only those with these labels",
        "-w, --watch": "go on and show what changes",
        ...OUTPUT,
      },
    },
    get: { words: "NAME", says: "Shows one endpoint.", flags: OUTPUT },
    add: {
      words: "NAME",
      says: "Makes an endpoint of a network namespace, a device or a cgroup: exactly one of the three.",
      flags: {
        "--netns PATH": "network namespace, by path or by name under /run/netns",
        "--device NAME": "device of this host, such as a VM's tap",
        "--cgroup PATH": "process tree with the host's addresses",
        "-l, --label KEY=VALUE...": "labels, from which its identity comes",
        "--port NAME=80/TCP...": "named ports, for policies and services",
        "--ipv4 ADDRESS": "its address (default: one of the node's)",
        "--ipv6 ADDRESS": "its address (default: one of the node's)",
        "--mac MAC": "its hardware address",
        "--pool NAME": "named pool that its addresses are from (default: the node's own prefixes)",
        "--container-device NAME": "name of the device inside (default: eth0)",
        "--enforcement MODE":
          "when its policies are enforced: default, always, never (default: as its node has it)",
        "--wait": "until it is ready",
        ...OUTPUT,
      },
    },
    label: { words: "NAME KEY=VALUE... KEY-...", says: "Sets and removes labels of a running endpoint." },
    config: {
      words: "NAME [enforcement=MODE] [audit=on|off]",
      says:
        "Shows or sets when the policies of a running endpoint are enforced: default (in a direction that some policy is about), always, never; enforcement- is as its node has it. With audit=on what they deny passes, and is told as AUDIT; L7 rules do not judge it then.",
    },
    delete: { words: "NAME...", says: "Removes endpoints." },
    "pool list": {
      says: "Lists the named pools of addresses, and how many of their blocks nodes have.",
      flags: OUTPUT,
    },
    "pool set": {
      words: "NAME",
      says: "Adds or replaces a pool, of which nodes get blocks as they need them.",
      flags: {
        "--cidr PREFIX...": "its prefixes",
        "--length-v4 LENGTH": "of one block (default: 28)",
        "--length-v6 LENGTH": "of one block (default: 124)",
      },
    },
    "pool delete": { words: "NAME...", says: "Removes pools; endpoints keep the addresses that they have." },
  },
  notes:
    `A pod's endpoint is called NAMESPACE/POD. A label without a source is the workload's own: it is written k8s:KEY=VALUE
when the name is NAMESPACE/POD, else unspec:KEY=VALUE.

  weir endpoint add web --cgroup /sys/fs/cgroup/system.slice/nginx.service --label app=web
`,
};
