/** Help of `weir explain`. @module */
import { type Manual, NAMESPACE, OUTPUT } from "./manual.ts";

/** `weir explain`; `weir policy explain` is the same. */
export const EXPLAIN: Manual = {
  summary: "why a connection works, is denied, or is allowed and fails all the same; and the smallest change",
  verbs: {
    "": {
      says:
        "Goes the whole way of a connection: source, service, policy on both sides, nodes, destination. Exit code 3: denied; 4: allowed, and it cannot work.",
      flags: {
        "--from END": "who opens the connection",
        "--to END": "to whom",
        "-p, --port 80/TCP": "port and protocol; of a service its own port",
        "--direction ingress|egress": "only this side's policies (default: both)",
        "--at TIME":
          "by the policies, labels and endpoints that held then, from the flow history: how long ago (2h), or 2026-11-22T10:00:00Z",
        "--flow UUID":
          "a flow of the history, in place of --from, --to and --port; with --at it is found sooner",
        "--http REQUEST":
          'whether L7 rules let this request pass: "GET /public", or "GET http://HOST/public"',
        "--header TEXT...": 'with --http: a header of the request, "X-Key: value"',
        "--dns NAME": "whether L7 rules let a question for this name pass",
        "--kafka REQUEST":
          "the same of a request to Kafka: produce:TOPIC, consume:TOPIC, metadata; produce@9:TOPIC with its API's version",
        "--client-id TEXT": "with --kafka: the client id of the request",
        "--cql TEXT": 'the same of a CQL statement, or of each one of a batch: "SELECT * FROM shop.cart"',
        "--keyspace NAME": "with --cql: the keyspace that the connection is in, as after USE",
        "--memcache LINE": 'the same of a command to memcached: "get KEY", "set KEY 0 0 5"',
        "--server-name NAME": 'the same of a TLS client that asks for this server; "": for none by name',
        "--manifest": "print only policies that would allow it, for weir policy apply -f -",
        ...NAMESPACE,
        ...OUTPUT,
      },
    },
  },
  notes:
    `An END is a pod or an endpoint, service/NAME (or its cluster IP), node/NAME, an address, a DNS name (name/NAME asks no DNS),
world, host, multicast, broadcast (and the other entities), identity:N, or KEY=VALUE[,...]
`,
};
