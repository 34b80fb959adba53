/**
 * Help of `weir cluster` and `weir join`.
 *
 * @module
 */
import { type FlagTexts, type Manual, OUTPUT } from "./manual.ts";

const MEMBER: FlagTexts = {
  "--node-name NAME": "name of this machine in the cluster (default: the host's name)",
  "--no-start": "do not start the agent's unit",
};
const JOINING: FlagTexts = {
  "--control-plane": "become a further machine of the control plane",
  "--listen ADDRESS":
    "of the control plane: address on which the other machines reach this one, ADDRESS[:7440]",
  "--database-url URL":
    "of the control plane: PostgreSQL that the first machine uses; with a password only as WEIR_DATABASE_URL",
  ...MEMBER,
};
const JOIN_SAYS =
  "Makes this machine a member of the cluster that made the token. Needs root. The token's secret is told to that cluster alone: its authority is known by the hash of its key.";

/** Help of `weir cluster`. */
export const CLUSTER: Manual = {
  summary: "machines of the cluster and tokens: init, join, token, leave, nodes, remove",
  verbs: {
    init: {
      says: "Makes this machine the control plane of a new cluster. Needs root.",
      flags: {
        "--listen ADDRESS": "address on which the other machines reach this one, ADDRESS[:7440]",
        "--cluster NAME": 'name of the cluster (default "default")',
        "--database-url URL":
          "PostgreSQL, which further machines of the control plane share; with a password only as WEIR_DATABASE_URL",
        ...MEMBER,
      },
    },
    join: { words: "TOKEN", says: JOIN_SAYS, flags: JOINING },
    token: {
      says:
        "Prints a new token, which is not shown again: for machines (node, control-plane), people and tools.",
      flags: {
        "--role node|control-plane|viewer|admin": "what it makes of who has it (default node)",
        "--uses N": "how many machines may join with it (default 1)",
        "--expires TIME": "90s, 15m, 24h, 30d (default: a day for machines, 90 days for people)",
        "--name TEXT": "who or what it is for",
      },
    },
    "token list": { says: "Lists tokens, without their secrets.", flags: OUTPUT },
    "token revoke": { words: "ID", says: "Ends a token, and what is done with it at this moment." },
    nodes: { says: "Lists the machines, their certificates, when they were last heard of.", flags: OUTPUT },
    remove: { words: "NAME", says: "Refuses a machine's certificate everywhere, at once." },
    leave: {
      says: "Gives up this machine's membership. Needs root; stop the agent first.",
      flags: { "--force": "even if the control plane cannot be told" },
    },
  },
  notes: `  weir cluster init --listen 192.0.2.1           on the first server
  weir cluster token                             prints weir-join.eyJ2...
  weir join weir-join.eyJ2...                    on the second

Ports 7440 to 7443/TCP of the control plane must be reachable from the nodes. Certificates are renewed while the agent runs.
People use a token with WEIR_TOKEN and the authority's file with WEIR_CA: weir --server https://192.0.2.1:7442 policy list
`,
};

/** Help of `weir join`. */
export const JOIN: Manual = {
  summary: "make this machine a member of a cluster, with a token from weir cluster token",
  verbs: { "": { words: "TOKEN", says: JOIN_SAYS, flags: JOINING } },
};
