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
  summary:
    "machines of the cluster, tokens and certificates: init, join, token, certificate, leave, nodes, remove",
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
    "token revoke": {
      words: "ID",
      says: "Ends a token or a person's certificate, and what is done with it at this moment.",
    },
    certificate: {
      words: "NAME",
      says:
        "Makes a certificate with which a person on another machine sees the flows of the cluster, for the hubble command. Needs root on the control plane. It is listed and revoked as a token.",
      flags: {
        "--out DIR": "new directory for client.crt, client.key and ca.crt (default: NAME)",
        "--expires TIME": "24h, 30d (default 90 days)",
      },
    },
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

  weir agent --control-plane --listen 192.0.2.1 --hubble-relay-listen 192.0.2.1
  weir cluster certificate eva --out eva         and on her machine, with these files:
  hubble observe --server tls://192.0.2.1:4245 --tls-server-name observer.weir.internal \\
    --tls-ca-cert-files eva/ca.crt --tls-client-cert-file eva/client.crt --tls-client-key-file eva/client.key

Ports 7440 to 7443/TCP of the control plane must be reachable from the nodes. Certificates are renewed while the agent runs.
People use a token with WEIR_TOKEN and the authority's file with WEIR_CA: weir --server https://192.0.2.1:7442 policy list
`,
};

/** Help of `weir join`. */
export const JOIN: Manual = {
  summary: "make this machine a member of a cluster, with a token from weir cluster token",
  verbs: { "": { words: "TOKEN", says: JOIN_SAYS, flags: JOINING } },
};
