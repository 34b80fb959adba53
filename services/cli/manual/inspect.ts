/**
 * Help of the commands that look and change nothing: status, identity, bpf, top.
 *
 * @module
 */
import { KUBERNETES } from "./kubernetes.ts";
import { DUMPS } from "@weir/proto/dumps";
import { type FlagTexts, type Manual, OUTPUT } from "./manual.ts";
import { GROUP_BY } from "./observe.ts";

/** Help of `weir status`. */
export const STATUS: Manual = {
  summary: "health of every service, what is hung, cut off or stale, and what follows from it for traffic",
  verbs: {
    "": {
      says:
        "Shows what is not well, since when, and what follows from it. Exit code 1 when something is not well.",
      flags: {
        "--wait": "wait until everything is well",
        "--timeout SECONDS": "how long --wait waits (default 60)",
        ...KUBERNETES,
        "-v, --verbose":
          "also kernel features, map pressure, and latency, loss and MTU between nodes; of a cluster also every service of every node",
        ...OUTPUT,
      },
    },
  },
  notes: `Every question has two seconds, so it ends whatever hangs.
  HUNG             the process is there and does not answer; its agent starts it anew
  AWAY             nothing listens: it ended, starts, or is not there
  PARTITIONED      a node does not hear the control plane, or the control plane the node
  STALE            what is in force is older than what is wanted
  DEGRADED         it works, with less than it should: also a way between two nodes that loses packets
Each with since when, and what follows from it for traffic.
`,
};

/** Help of `weir identity`. */
export const IDENTITY: Manual = {
  summary: "identities and the labels they stand for: list, get",
  verbs: {
    list: {
      says: "Lists identities.",
      flags: { "-l, --selector KEY=VALUE[,...]": "only those with these labels", ...OUTPUT },
    },
    get: { words: "NUMBER", says: "Shows one identity.", flags: OUTPUT },
  },
};

/** Help of `weir names`. */
export const NAMES: Manual = {
  summary: "names that pods have asked for, and what their addresses are to policies: list, identities",
  verbs: {
    list: {
      says: "Lists what the pods of each node know of names: addresses, until when, the identities of these.",
      flags: OUTPUT,
    },
    identities: {
      says:
        "Lists the identities that addresses have on each node because of their names: the prefix of policies around them and the selectors (toFQDNs) that mean the names.",
      flags: OUTPUT,
    },
  },
};

const ROWS = { "--limit N": "at most so many rows", ...OUTPUT };

/** Help of `weir bpf`. */
export const BPF: Manual = {
  summary: "what the kernel holds now: each table of the datapath, and its programs",
  verbs: Object.fromEntries(
    [...DUMPS, { name: "prog", says: "programs, where they hang, what the gate said" }].map((
      { name, says },
    ) => [
      `${name} list`,
      { says: `${says[0].toUpperCase()}${says.slice(1)}.`, flags: ROWS },
    ]),
  ),
  notes:
    "Read from the maps of the node at the moment of asking; all nodes of a lab unless --node says which.\n",
};

const HOLDERS =
  "Entries by who opened the flow: an endpoint, the node itself, or who is outside (TOWARDS whom); and how many new flows were refused because a share was used up.";

const WINDOW: FlagTexts = {
  "--since TIME":
    "out of the history: from this time on (1h, 2026-11-22, 2026-11-22T10:00:00Z); default: what the nodes hold now",
  "--until TIME": "out of the history: up to this time",
  "-n, --namespace NAMESPACE": "only of pods of this namespace",
  ...GROUP_BY,
  ...ROWS,
};

/** Help of `weir top`. */
export const TOP: Manual = {
  summary:
    "who talks most (talkers), is dropped most (drops), fills most (conntrack, nat, handles, events, ipcache), fails (troubles)",
  verbs: {
    talkers: {
      says: "Who talks most with whom, by workload and port: flows and connections.",
      flags: WINDOW,
    },
    drops: {
      says: "Who is dropped most, towards whom, why, and by which policy; first and last time.",
      flags: WINDOW,
    },
    conntrack: { says: HOLDERS, flags: ROWS },
    nat: { says: HOLDERS, flags: ROWS },
    handles: {
      says: "Connections that the L7 proxy judges by who opened them, and how many of new ones were refused.",
      flags: ROWS,
    },
    events: {
      says: "Events by who caused them, and how many were lost because a share of the ring was used up.",
      flags: ROWS,
    },
    ipcache: {
      says:
        "Prefixes by where they come from: nodes, this node, CIDRs of policies; and how many are left out.",
      flags: ROWS,
    },
    troubles: {
      says:
        "Flows that policy allows and that fail all the same, by endpoint: no answer, refused by the other end, unreachable, a packet larger than the path, or answered and never confirmed. weir observe --type trouble shows them.",
      flags: ROWS,
    },
  },
  notes:
    "Nobody is limited while there is room: a share binds only while a table fills. weir status says DEGRADED while it does.\n",
};
