/**
 * Help of `weir observe` and `weir monitor`.
 *
 * @module
 */
import { type FlagTexts, type Manual, OUTPUT } from "./manual.ts";

const EVENT_TYPE = "drop|trace|policy-verdict";

/** Either end is `pod`, one end is `from-pod` or `to-pod`. */
const ENDS: Readonly<Record<string, [value: string, says: string]>> = {
  pod: ["[NAMESPACE/]POD", "pods whose names begin so"],
  namespace: ["NAMESPACE", "pods of this namespace"],
  label: ["KEY=VALUE", "workloads with this label"],
  identity: ["NUMBER|NAME", "an identity"],
  ip: ["ADDRESS|PREFIX", "an address"],
  port: ["PORT", "a port"],
  service: ["[NAMESPACE/]NAME", "a service"],
  fqdn: ["NAME", "a DNS name"],
  workload: ["[KIND/]NAME", "a workload"],
  cluster: ["NAME", "a cluster"],
};
const SHORT: Readonly<Record<string, string>> = { namespace: "-n, ", label: "-l, " };
const ends: FlagTexts = Object.fromEntries(
  Object.entries(ENDS).flatMap(([name, [value, says]]) => [
    [`${SHORT[name] ?? ""}--${name} ${value}...`, `either end: ${says}`],
    [`--from-${name} ${value}...`, `who sends: ${says}`],
    [`--to-${name} ${value}...`, `who receives: ${says}`],
  ]),
);

const TIMES =
  "how long ago (3s, 4m, 1h43m, 2d), a date (2026-11-22), or a time with its zone (2026-11-22T10:00:00Z)";
const SELECTORS: FlagTexts = {
  "-f, --follow": "go on as they come",
  "--last N": "the newest N (default 20)",
  "--first N": "the oldest N",
  "--all": "all that are kept",
  "--since TIME": `from this time on: ${TIMES}`,
  "--until TIME": "up to this time",
};
const FORMATTING: FlagTexts = {
  "-o, --output compact|dict|json|jsonpb|table": "form of the answer (default compact)",
  "--print-node-name": "say the node although there is one",
  "--time-format FORMAT":
    "StampMilli (default), YearMonthDay, YearMonthDayHour, YearMonthDayHourMinute, RFC3339, RFC3339Milli, RFC3339Micro, RFC3339Nano, RFC1123Z; in UTC",
  "-s, --silent-errors": "say nothing of nodes that do not answer, and of lines that cannot be read",
};

const FILTERS: FlagTexts = {
  "--not": "turns the next filter round",
  ...ends,
  "-A, --all-namespaces": "pods of any namespace (a pod without one is meant in default)",
  "--from-all-namespaces": "who sends is a pod",
  "--to-all-namespaces": "who receives is a pod",
  "--verdict VERDICT...": "FORWARDED, DROPPED, AUDIT, REDIRECTED, ERROR, TRACED, TRANSLATED",
  "--drop-reason-desc REASON...": "why it was dropped, as in weir bpf metrics",
  "--drop-reason REASON...": "the same",
  "-t, --type TYPE...":
    "drop, trace, policy-verdict, l7, capture, trace-sock, agent, trace:to-endpoint, ...; trouble, or one of no-answer, refused, unreachable, too-big, unconfirmed, retransmitted: flows that policy allows and that fail",
  "--protocol NAME...": "tcp, udp, icmp, icmpv4, icmpv6, sctp, vrrp, igmp, dns, http, kafka",
  "--tcp-flags SYN,ACK...": "segments with these flags",
  "--ip-version 4|6|none...": "only of this family, or what is no IP",
  "-4, --ipv4": "only IPv4",
  "-6, --ipv6": "only IPv6",
  "--snat-ip ADDRESS|PREFIX...": "what was sent with this address in place of its own",
  "--interface NAME...": "seen at this device",
  "--encrypted": "only what is encrypted between nodes",
  "--unencrypted": "only what is not",
  "--http-status CODE...": "404, or 4+ for all that begin so",
  "--http-method METHOD...": "GET, ...",
  "--http-path REGEXP...": "the path of a request",
  "--http-url REGEXP...": "the whole URL",
  "--http-header KEY:VALUE...": "a request with this header",
  "--dns-query REGEXP...": "a name that was asked for",
  "--trace-id ID...": "part of this trace",
  "--ip-trace-id NUMBER...": "packets with this number in their IP options",
  "--node-label KEY=VALUE...": "seen by nodes with this label",
  "--cel-expression TEXT...": "a CEL expression over _flow: _flow.verdict == Verdict.DROPPED",
  "--traffic-direction DIRECTION...": "ingress or egress",
  "--reply": "only answers",
  "--not-reply": "only what asks",
  "--node-name NAME...": "flows that this node saw",
  "--uuid UUID...": "one flow",
};
/** Of verbs that add up flows. */
export const GROUP_BY: FlagTexts = {
  "--group-by KEY...":
    "add up by pod, workload, namespace, identity, label:KEY (each of who sends and who receives), port, protocol, verdict, reason, policy or node",
};

const SERVER: FlagTexts = {
  "--tls": "of --server ADDRESS:PORT: as with tls://ADDRESS:PORT",
  "--tls-allow-insecure": "believe whatever certificate the server shows: whoever is in between reads along",
  "--tls-ca-cert-files FILE,...": "who signed the server's certificate",
  "--tls-client-cert-file FILE": "this client's certificate, as weir cluster certificate makes it",
  "--tls-client-key-file FILE": "its key",
  "--tls-server-name NAME":
    "the name that the server's certificate must have; of Weir's own observer.weir.internal",
  "--timeout TIME": "how long to wait for the server (default 5s)",
};

/** Flags of `weir observe`: those of `hubble observe`, and Weir's own filters. */
export const OBSERVE_FLAGS: FlagTexts = {
  ...SELECTORS,
  "--input-file FILE": 'flows from this file, as -o json prints them; "-" is stdin',
  ...FILTERS,
  "--allowlist JSON...": "flows that this FlowFilter lets through too",
  "--denylist JSON...": "no flows that this FlowFilter matches",
  "--print-raw-filters": "print what the filters mean as FlowFilters, and ask nobody",
  ...FORMATTING,
  "--print-policy-names":
    "the policy behind each verdict, with its line (default; =false prints what hubble observe prints, and no more)",
  "--color auto|always|never": "colours of -o compact and dict (default auto: on a terminal)",
  "--ip-translation": "names in place of addresses (default; =false: addresses)",
  "--numeric": "addresses in place of names",
  ...SERVER,
  ...GROUP_BY,
  "--field-mask FIELD,...": "of -o json: only these fields of a flow",
  "--use-default-field-masks": "ask for no more than is printed (default; =false: for everything)",
};

/** Flags of `weir observe connections`. */
export const CONNECTION_FLAGS: FlagTexts = {
  "--since TIME": `out of the history, from this time on: ${TIMES}`,
  "--until TIME": "out of the history, up to this time",
  ...FILTERS,
  ...GROUP_BY,
  "--limit N": "at most so many rows (default 100)",
  ...OUTPUT,
};

/** Flags of `weir observe agent-events` and `debug-events`. */
export const EVENTS_FLAGS: FlagTexts = { ...SELECTORS, ...FORMATTING, ...SERVER };

/** Help of `weir observe`. */
export const OBSERVE: Manual = {
  summary: "flows: who talked to whom, the verdict and the policy behind it",
  verbs: {
    "": {
      says:
        "Shows the newest flows that every given filter lets through; a filter given twice means either value. --since and --until reach into the history where it runs. weir observe flows is the same.",
      flags: OBSERVE_FLAGS,
    },
    connections: {
      says:
        "Shows connections in place of packets: who asked whom, since when, for how long, how it ended, flows there and back, the verdict and its policies. Without --since those of the flows in the nodes' memory and of conntrack, with it those of the history. Below: what share of what happened that is.",
      flags: CONNECTION_FLAGS,
    },
    "agent-events": {
      says: "Shows endpoints, addresses and policies that came, changed or went on the nodes.",
      flags: EVENTS_FLAGS,
    },
    "debug-events": {
      says:
        "Shows debug messages of the datapath as Hubble has them: Weir's makes none, so it shows nothing.",
      flags: EVENTS_FLAGS,
    },
  },
  notes: `  weir observe --verdict DROPPED --to-pod default/deathstar-1
  weir observe connections --namespace shop --since 2h --group-by workload --group-by port
  weir observe --server tls://192.0.2.1:4245 --tls-server-name observer.weir.internal --tls-ca-cert-files ca.crt \\
    --tls-client-cert-file client.crt --tls-client-key-file client.key        (any server with Hubble's API)
  weir observe --all -o json >flows.json; weir observe --input-file flows.json --namespace shop
`,
};

/** Help of `weir monitor`. */
export const MONITOR: Manual = {
  summary: "raw events of the datapath",
  verbs: {
    "": {
      says: "Follows the events as they come.",
      flags: { [`-t, --type ${EVENT_TYPE}...`]: "only this kind" },
    },
  },
};
