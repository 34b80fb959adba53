/** Schema of one rule set of a Cilium policy: `spec`, and each of `specs`. @module */
import {
  anyOneOf,
  exactlyOneOf,
  flag,
  integer,
  labelSelector,
  listOf,
  mapOf,
  object,
  oneWordOf,
  type Schema,
  text,
} from "./schema.ts";

const LIST_MAX = 40;
const ENTITIES = [
  "all",
  "world",
  "world-ipv4",
  "world-ipv6",
  "cluster",
  "host",
  "remote-node",
  "init",
  "ingress",
  "health",
  "unmanaged",
  "none",
  "kube-apiserver",
];
/** A number of a port, or a name of one. */
const PORT =
  "^(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})$|^([a-zA-Z0-9]-?)*[a-zA-Z](-?[a-zA-Z0-9])*$";
const ICMP_TYPES = "^([0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])$|^[A-Za-z]+$";
/** Names of DNS, with `*` where a pattern is meant. */
const DNS_NAME = "^([-a-zA-Z0-9_]+[.]?)+$";
const DNS_PATTERN = "^(([-a-zA-Z0-9_*]+[.]?)+|[*])$";

const cidr = text({ maxLength: 64, description: "A prefix, such as 192.0.2.0/24 or 2001:db8::/32." });
const secret = object({ namespace: text(), name: text() }, { required: ["name"] });
const tlsContext = object({
  secret,
  trustedCA: text(),
  certificate: text(),
  privateKey: text(),
}, { required: ["secret"] });

const http = object({
  path: text({ description: "Anchored regular expression." }),
  method: text({ description: "Anchored regular expression." }),
  host: text({ description: "Anchored regular expression." }),
  headers: listOf(text()),
  headerMatches: listOf(object({
    name: text(),
    value: text(),
    secret,
    mismatch: oneWordOf(["LOG", "ADD", "DELETE", "REPLACE"]),
  }, { required: ["name"] })),
});
const kafka = object({
  role: oneWordOf(["produce", "consume"]),
  apiKey: text(),
  apiVersion: text(),
  clientID: text(),
  topic: text({ maxLength: 255 }),
});
const dns = object({
  matchName: text({ maxLength: 255, pattern: DNS_NAME }),
  matchPattern: text({ maxLength: 255, pattern: DNS_PATTERN }),
}, anyOneOf("matchName", "matchPattern"));

const ports = listOf(
  object({
    port: text({ pattern: PORT, description: "A number, or the name of a port." }),
    endPort: integer(0, 65535, { format: "int32" }),
    protocol: oneWordOf(["TCP", "UDP", "SCTP", "VRRP", "IGMP", "ANY"]),
  }),
  { maxItems: LIST_MAX },
);
const toPorts = listOf(object({
  ports,
  rules: object({
    http: listOf(http),
    kafka: listOf(kafka),
    dns: listOf(dns),
    l7proto: text(),
    l7: listOf(mapOf(text())),
  }, {
    oneOf: [
      { required: ["http"] },
      { required: ["kafka"] },
      { required: ["dns"] },
      { required: ["l7proto"] },
      { not: { anyOf: ["http", "kafka", "dns", "l7proto"].map((field) => ({ required: [field] })) } },
    ],
  }),
  terminatingTLS: tlsContext,
  originatingTLS: tlsContext,
  serverNames: listOf(text()),
  listener: object({
    envoyConfig: object({
      kind: oneWordOf(["CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig"]),
      name: text(),
    }, { required: ["name"] }),
    name: text(),
    priority: integer(1, 100),
  }, { required: ["envoyConfig", "name"] }),
}));
const toPortsDeny = listOf(object({ ports }));

const icmps = listOf(object({
  fields: listOf(
    object({
      family: oneWordOf(["IPv4", "IPv6"], { default: "IPv4" }),
      type: {
        anyOf: [{ type: "integer" }, { type: "string" }],
        pattern: ICMP_TYPES,
        "x-kubernetes-int-or-string": true,
      },
    }, { required: ["type"] }),
    { maxItems: LIST_MAX },
  ),
}));

const cidrSet = listOf(object({
  cidr,
  cidrGroupRef: text({ maxLength: 253 }),
  cidrGroupSelector: labelSelector(),
  except: listOf(cidr),
}, exactlyOneOf("cidr", "cidrGroupRef", "cidrGroupSelector")));
const groups = listOf(object({
  aws: object({
    labels: mapOf(text()),
    region: text(),
    securityGroupsIds: listOf(text()),
    securityGroupsNames: listOf(text()),
  }),
}));
const authentication = object(
  { mode: oneWordOf(["disabled", "required", "test-always-fail"]) },
  { required: ["mode"] },
);
const fqdns = listOf(object({
  matchName: text({ maxLength: 255, pattern: DNS_NAME }),
  matchPattern: text({ maxLength: 255, pattern: DNS_PATTERN }),
}, anyOneOf("matchName", "matchPattern")));
const services = listOf(object({
  k8sService: object({ serviceName: text(), namespace: text() }),
  k8sServiceSelector: object({ selector: labelSelector(), namespace: text() }, { required: ["selector"] }),
}));
/** Fields that were taken out: an empty list is all that they may be. */
const removed = listOf(labelSelector(), { maxItems: 0, description: "Not supported any more." });

/** Who is meant at the other end: `from...` or `to...`. */
function peers(side: "from" | "to"): Record<string, Schema> {
  return {
    [`${side}Endpoints`]: listOf(labelSelector()),
    [`${side}Requires`]: removed,
    [`${side}CIDR`]: listOf(cidr),
    [`${side}CIDRSet`]: cidrSet,
    [`${side}Entities`]: listOf(oneWordOf(ENTITIES)),
    [`${side}Groups`]: groups,
    [`${side}Nodes`]: listOf(labelSelector()),
  };
}

const direction = "Direction in which what no rule allows is denied.";

/** One rule set. Which endpoints it is for: `endpointSelector`, or `nodeSelector` where the kind has it. */
export function ruleSchema({ nodeSelector }: { nodeSelector: boolean }): Schema {
  return object({
    endpointSelector: labelSelector("Endpoints that the rules are for."),
    ...(nodeSelector ? { nodeSelector: labelSelector("Nodes that the rules are for.") } : {}),
    ingress: listOf(object({ ...peers("from"), toPorts, icmps, authentication })),
    ingressDeny: listOf(object({ ...peers("from"), toPorts: toPortsDeny, icmps })),
    egress: listOf(object({
      ...peers("to"),
      toServices: services,
      toFQDNs: fqdns,
      toPorts,
      icmps,
      authentication,
    })),
    egressDeny: listOf(object({ ...peers("to"), toServices: services, toPorts: toPortsDeny, icmps })),
    enableDefaultDeny: object({ ingress: flag(direction), egress: flag(direction) }),
    labels: listOf(object({ key: text(), value: text(), source: text() }, { required: ["key"] })),
    description: text(),
    log: object({ value: text({ maxLength: 32 }) }),
  }, {
    ...anyOneOf("ingress", "ingressDeny", "egress", "egressDeny"),
    ...(nodeSelector ? exactlyOneOf("endpointSelector", "nodeSelector") : { required: ["endpointSelector"] }),
  });
}
