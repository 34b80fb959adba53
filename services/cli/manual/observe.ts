/**
 * Help of `weir observe` and `weir monitor`.
 *
 * @module
 */
import type { FlagTexts, Manual } from "./manual.ts";

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

/** Help of `weir observe`. */
export const OBSERVE: Manual = {
  summary: "flows: who talked to whom, the verdict and the policy behind it",
  verbs: {
    "": {
      says:
        "Shows the newest flows that every given filter lets through; a filter given twice means either value.",
      flags: {
        "-f, --follow": "go on as flows come",
        "--last N": "the newest N (default 20)",
        "--first N": "the oldest N",
        "--all": "all that are kept",
        "--since TIME": "from this time on: 5m, 1h30m, or RFC 3339",
        "--until TIME": "up to this time",
        "--not": "turns the next filter round",
        ...ends,
        "--verdict VERDICT...": "FORWARDED, DROPPED, ...",
        "--drop-reason-desc REASON...": "why it was dropped, as in weir bpf metrics",
        "--drop-reason REASON...": "the same",
        "-t, --type TYPE...":
          "drop, trace, policy-verdict, trace:to-endpoint, ...; trouble, or one of no-answer, refused, unreachable, too-big, unconfirmed, retransmitted: flows that policy allows and that fail",
        "--protocol NAME...": "tcp, udp, icmp, ...",
        "--tcp-flags SYN,ACK...": "segments with these flags",
        "--ip-version 4|6|none...": "only of this family, or what is no IP",
        "-4, --ipv4": "only IPv4",
        "-6, --ipv6": "only IPv6",
        "-A, --all-namespaces": "pods of any namespace (a pod without one is meant in default)",
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
        "--traffic-direction DIRECTION...": "INGRESS or EGRESS",
        "--reply true|false...": "only answers, or only what asks",
        "--node-name NAME...": "flows that this node saw",
        "--uuid UUID...": "one flow",
        "--print-node-name": "say the node although there is one",
        "-o, --output compact|dict|json|jsonpb|table": "form of the answer",
      },
    },
  },
  notes: "  weir observe --verdict DROPPED --to-pod default/deathstar-1\n",
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
