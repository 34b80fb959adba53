/**
 * Reading of L7 rules from manifests: `rules` and `serverNames` of `toPorts`. Whatever could not be judged by later is refused here, with its
 * place; what can be and will hardly be meant is a warning.
 * @module
 */
import { PROTOCOL_NUMBERS } from "@weir/common";
import type { ManifestNode, ManifestReader } from "@weir/common/manifest";
import {
  CASSANDRA_OTHER_ACTIONS,
  CASSANDRA_TABLE_ACTIONS,
  compileCassandraRule,
  compileDnsRules,
  compileHttpRule,
  compileKafkaRule,
  compileMemcacheRule,
  compilePattern,
  compileServerNameRule,
  judgeCassandra,
  KAFKA_API_KEYS,
  KAFKA_ROLES,
  MEMCACHE_COMMANDS,
} from "@weir/l7-rules";
import {
  CassandraRule,
  DnsRule,
  type HeaderMatch,
  HttpRule,
  type KafkaRule,
  MemcacheRule,
  ServerNameRule,
} from "@weir/proto/l7";
import { compiles, readName } from "./name_syntax.ts";
import type { Direction, PortMatch, PortRule, PortRules } from "./policy.ts";

/** Most rules in one list, and headers in one rule. */
export const PORT_RULES_MAX = 1000;
export const HEADERS_MAX = 100;

/** What reading L7 rules needs to know beside their text. */
export interface RulesContext {
  readonly direction: Direction;
  readonly deny: boolean;
  /** Of the policy: secrets are in it unless they say another. */
  readonly namespace: string;
  readonly warn: (path: string, detail: string) => void;
}

type Read = (
  reader: ManifestReader,
  node: ManifestNode,
  context: RulesContext,
) => PortRule["rule"] | undefined;

const LISTS: Readonly<Record<string, { kind: PortRules["kind"]; read: Read }>> = {
  http: { kind: "HTTP", read: readHttp },
  dns: { kind: "DNS", read: readDns },
  kafka: { kind: "KAFKA", read: readKafka },
};
const PROTOCOLS: Readonly<Record<string, { kind: PortRules["kind"]; read: Read }>> = {
  cassandra: { kind: "CASSANDRA", read: readCassandra },
  memcache: { kind: "MEMCACHE", read: readMemcache },
};

/** The L7 rules of one item of `toPorts`; undefined where it has none, or none that can be used. */
export function readPortRules(
  reader: ManifestReader,
  rules: ManifestNode | undefined,
  serverNames: ManifestNode | undefined,
  context: RulesContext,
): PortRules | undefined {
  if (context.deny) {
    const given = rules ?? serverNames;
    if (given) {
      reader.unsupported(
        given,
        rules ? "rules in a deny" : "serverNames in a deny",
        "not possible: a deny is about the whole port",
      );
    }
    return undefined;
  }
  const found = rules && readRules(reader, rules, context);
  const names = serverNames && readServerNames(reader, serverNames);
  if (found && names) {
    reader.unsupported(
      serverNames!,
      "serverNames beside rules",
      "not supported: what TLS protects cannot be read",
    );
  }
  return found ?? names;
}

function readRules(reader: ManifestReader, node: ManifestNode, context: RulesContext): PortRules | undefined {
  const fields = reader.map(node, [...Object.keys(LISTS), "l7proto", "l7"]);
  if (!fields) return undefined;
  const protocolNode = fields.get("l7proto"), l7 = fields.get("l7");
  const protocol = protocolNode && reader.string(protocolNode, 64);
  if (l7 && !protocolNode) reader.invalid(l7, "l7 without l7proto, want the protocol of these rules");
  const known = protocol !== undefined && Object.hasOwn(PROTOCOLS, protocol)
    ? PROTOCOLS[protocol]
    : undefined;
  if (protocol !== undefined && !known) {
    reader.invalid(
      protocolNode!,
      `l7proto ${JSON.stringify(protocol)} is not known, want ${Object.keys(PROTOCOLS).join(" or ")}${
        Object.hasOwn(LISTS, protocol) ? `; the rules of ${protocol} go into rules.${protocol}` : ""
      }`,
    );
    return undefined;
  }
  const lists = Object.keys(LISTS).flatMap((name) => {
    const list = fields.get(name);
    return list ? [{ name, list, ...LISTS[name] }] : [];
  });
  if (protocolNode && known) {
    if (l7) lists.push({ name: "l7", list: l7, ...known });
    else context.warn(node.path, `l7proto ${protocol} without rules in l7 is none: everything passes`);
  }
  const filled = lists.filter(({ name, list }) => {
    const items = reader.list(list, PORT_RULES_MAX);
    if (items?.length === 0) context.warn(list.path, `an empty list is no ${name} rule: everything passes`);
    return items !== undefined && items.length > 0;
  });
  if (filled.length > 1) {
    reader.invalid(
      node,
      `${
        filled.map(({ name }) => name).join(" and ")
      } cannot stand in one item, want one protocol per toPorts item`,
    );
    return undefined;
  }
  const [one] = filled;
  if (!one) return undefined;
  if (one.kind === "DNS" && context.direction !== "EGRESS") {
    return reader.invalid(
      one.list,
      "dns rules stand in egress only: they are about questions that an endpoint asks",
    );
  }
  const read = one.list.items.flatMap((item): PortRule[] => {
    const rule = one.read(reader, item, context);
    return rule ? [{ path: item.path, line: item.line, rule }] : [];
  });
  if (one.kind === "CASSANDRA") warnOfSystemTables(one.list, read, context);
  return read.length === 0
    ? undefined
    : { kind: one.kind, path: one.list.path, line: one.list.line, rules: read };
}

function readServerNames(reader: ManifestReader, node: ManifestNode): PortRules | undefined {
  const rules = (reader.list(node, PORT_RULES_MAX) ?? []).flatMap((item): PortRule[] => {
    const name = reader.string(item, 255);
    const rule = name === undefined ? undefined : ServerNameRule.create({ name });
    return rule && compiles(reader, item, () => compileServerNameRule(rule))
      ? [{ path: item.path, line: item.line, rule }]
      : [];
  });
  return rules.length === 0 ? undefined : { kind: "TLS", path: node.path, line: node.line, rules };
}

/** The ports of an item with its L7 rules, where these are possible there. */
export function withRules(
  reader: ManifestReader,
  ports: readonly { readonly node: ManifestNode; readonly matches: readonly PortMatch[] }[],
  rules: PortRules,
): PortMatch[] {
  const word = rules.kind === "TLS" ? "serverNames" : rules.path.slice(rules.path.lastIndexOf(".") + 1);
  const { TCP, UDP, SCTP } = PROTOCOL_NUMBERS;
  return ports.flatMap(({ node, matches }) => {
    if (matches.some(({ name, first, last }) => name === "" && first === 0 && last > 0)) {
      return reader.invalid(node, `${word} rules need a port, and this is every port`) ?? [];
    }
    if (rules.kind === "DNS") {
      if (matches.some(({ first, last }) => first !== last)) {
        return reader.invalid(node, "dns rules need one port, and this is a range") ?? [];
      }
      if (matches.every(({ protocol }) => protocol === SCTP)) {
        return reader.invalid(node, "dns rules need protocol UDP, TCP or ANY") ?? [];
      }
      return matches.filter(({ protocol }) => protocol === TCP || protocol === UDP).map((match) => ({
        ...match,
        rules,
      }));
    }
    if (matches.some(({ protocol }) => protocol !== TCP)) {
      return reader.invalid(node, `${word} rules need protocol: TCP`) ?? [];
    }
    return matches.map((match) => ({ ...match, rules }));
  });
}

function readHttp(reader: ManifestReader, node: ManifestNode, context: RulesContext): HttpRule | undefined {
  const fields = reader.map(node, ["method", "path", "host", "headers", "headerMatches"]);
  if (!fields) return undefined;
  const texts = { method: "", path: "", host: "" };
  let usable = true;
  for (const name of ["method", "path", "host"] as const) {
    const field = fields.get(name), text = reader.string(field, 65536);
    if (!field) continue;
    if (text === undefined || !compiles(reader, field, () => compilePattern(text))) usable = false;
    else texts[name] = text;
  }
  const headers = [
    ...(reader.list(fields.get("headers"), HEADERS_MAX) ?? []).map((item) =>
      readHeader(reader, item, context)
    ),
    ...(reader.list(fields.get("headerMatches"), HEADERS_MAX) ?? [])
      .map((item) => readHeaderMatch(reader, item, context)),
  ];
  if (!usable || headers.some((header) => header === undefined)) return undefined;
  warnOfHttp(fields, texts, context);
  const rule = HttpRule.create({ ...texts, headers: headers as HeaderMatch[] });
  return compiles(reader, node, () => compileHttpRule(rule)) ? rule : undefined;
}

function warnOfHttp(
  fields: ReadonlyMap<string, ManifestNode>,
  { method, path }: { method: string; path: string },
  { warn }: RulesContext,
): void {
  if (/^[a-z]+$/.test(method)) {
    warn(
      fields.get("method")!.path,
      `${JSON.stringify(method)} means no usual request: methods have a case, say ${method.toUpperCase()}`,
    );
  }
  // Only where the text means itself: expressions may say what they like.
  const literal = path.replace(/\\([.\-/_])/g, "$1");
  const isGrpc = /^\/[A-Za-z_]\w*(\.\w+)+\/\w+$/.test(literal);
  if (/^\/[\w\-./~%]*$/.test(literal) && !isGrpc) {
    warn(
      fields.get("path")!.path,
      `${JSON.stringify(path)} means no request with a query string: add (\\?.*)? where they have one`,
    );
  } else if (path !== "" && !path.startsWith("/") && /^[\w\-]/.test(path)) {
    warn(fields.get("path")!.path, `${JSON.stringify(path)} means no path: they begin with /`);
  }
}

/** `X-Key: value`, parted at the first blank, or `X-Key` alone for its presence. */
function readHeader(
  reader: ManifestReader,
  node: ManifestNode,
  { warn }: RulesContext,
): HeaderMatch | undefined {
  const text = reader.string(node);
  if (text === undefined) return undefined;
  const blank = text.indexOf(" ");
  const name = (blank < 0 ? text : text.slice(0, blank)).replace(/:$/, "");
  if (name === "") return reader.invalid(node, `${JSON.stringify(text)} names no header`);
  if (!/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(name)) {
    warn(
      node.path,
      `no request has a header named ${
        JSON.stringify(name)
      }, so the rule means none: say "Name: value", with a blank`,
    );
  }
  const value = blank < 0 ? "" : text.slice(blank + 1);
  return { name, value, mismatch: "REFUSE", secret: "" };
}

function readHeaderMatch(
  reader: ManifestReader,
  node: ManifestNode,
  { warn, namespace }: RulesContext,
): HeaderMatch | undefined {
  const fields = reader.map(node, ["name", "value", "secret", "mismatch"]);
  if (!fields) return undefined;
  const name = reader.string(fields.get("name"), 256);
  if (!name) return reader.invalid(fields.get("name") ?? node, "name is missing, want that of a header");
  const mismatch = fields.has("mismatch") ? reader.string(fields.get("mismatch"), 16) : "REFUSE";
  if (mismatch === undefined) return undefined;
  if (
    !["REFUSE", "LOG", "ADD", "DELETE", "REPLACE"].includes(mismatch) ||
    fields.get("mismatch")?.scalar === "REFUSE"
  ) {
    return reader.invalid(
      fields.get("mismatch")!,
      `${JSON.stringify(mismatch)}, want LOG, ADD, DELETE or REPLACE, or no mismatch at all`,
    );
  }
  const value = reader.string(fields.get("value")) ?? "", secretNode = fields.get("secret");
  if (!secretNode) return { name, value, mismatch: mismatch as HeaderMatch["mismatch"], secret: "" };
  const secret = reader.map(secretNode, ["namespace", "name"]);
  const secretName = reader.string(secret?.get("name"), 253);
  if (secret && !secretName) return reader.invalid(secretNode, "name is missing, want that of a secret");
  const text = `${reader.string(secret?.get("namespace"), 253) ?? namespace}/${secretName}`;
  if (value === "") {
    return reader.invalid(
      secretNode,
      "the value of a header from a secret: secrets are not read, say the value itself (value: ...)",
    );
  }
  warn(secretNode.path, "secrets are not read: the value beside it is compared");
  return { name, value, mismatch: mismatch as HeaderMatch["mismatch"], secret: text };
}

function readDns(reader: ManifestReader, node: ManifestNode, { warn }: RulesContext): DnsRule | undefined {
  const named = readName(reader, node, warn);
  const rule = named && DnsRule.create(named.value);
  return rule && compiles(reader, named.place, () => compileDnsRules([rule])) ? rule : undefined;
}

function readKafka(reader: ManifestReader, node: ManifestNode): KafkaRule | undefined {
  const fields = reader.map(node, ["role", "apiKey", "apiVersion", "clientID", "topic"]);
  if (!fields) return undefined;
  const role = reader.string(fields.get("role"), 64), apiKey = reader.string(fields.get("apiKey"), 64);
  const version = reader.string(fields.get("apiVersion"), 16);
  if (role && apiKey) {
    return reader.invalid(node, "role and apiKey cannot stand in one rule, want one of them");
  }
  if (role && !Object.hasOwn(KAFKA_ROLES, role.toLowerCase())) {
    return reader.invalid(fields.get("role")!, `${JSON.stringify(role)} is no role, want produce or consume`);
  }
  const key = apiKey ? KAFKA_API_KEYS.get(apiKey.toLowerCase()) : undefined;
  if (apiKey && key === undefined) {
    return reader.invalid(
      fields.get("apiKey")!,
      `${JSON.stringify(apiKey)} is no request of Kafka that is known`,
    );
  }
  if (version && !(/^(0|[1-9][0-9]{0,4})$/.test(version) && Number(version) <= 32767)) {
    return reader.invalid(
      fields.get("apiVersion")!,
      `${JSON.stringify(version)}, want a number from 0 to 32767`,
    );
  }
  const rule: KafkaRule = {
    cookie: 0,
    apiKeys: role ? [...KAFKA_ROLES[role.toLowerCase()]] : key === undefined ? [] : [key],
    topic: reader.string(fields.get("topic")) ?? "",
    clientId: reader.string(fields.get("clientID")) ?? "",
    ...version ? { apiVersion: Number(version) } : {},
  };
  return compiles(reader, fields.get("topic") ?? node, () => compileKafkaRule(rule)) ? rule : undefined;
}

/** The texts of an `l7` rule, whose fields have no other form. */
function readTexts(
  reader: ManifestReader,
  node: ManifestNode,
  known: readonly string[],
): Record<string, string> | undefined {
  const fields = reader.map(node, known);
  if (!fields) return undefined;
  const found: Record<string, string> = {};
  for (const name of known) {
    const field = fields.get(name), text = reader.string(field, 65536);
    if (field && text === undefined) return undefined;
    found[name] = text ?? "";
  }
  return found;
}

function readCassandra(reader: ManifestReader, node: ManifestNode): CassandraRule | undefined {
  const texts = readTexts(reader, node, ["query_action", "query_table"]);
  if (!texts) return undefined;
  const rule = CassandraRule.create({ queryAction: texts.query_action, queryTable: texts.query_table });
  const { queryAction: action } = rule;
  if (action !== "" && !CASSANDRA_TABLE_ACTIONS.has(action) && !CASSANDRA_OTHER_ACTIONS.has(action)) {
    return reader.invalid(
      node.fields.get("query_action")!.value,
      `${JSON.stringify(action)} is no query_action, want one of ${
        [...CASSANDRA_TABLE_ACTIONS, ...CASSANDRA_OTHER_ACTIONS].join(", ")
      }`,
    );
  }
  const place = node.fields.get("query_table")?.value ?? node;
  return compiles(reader, place, () => compileCassandraRule(rule)) ? rule : undefined;
}

/** What every driver reads before its first statement. */
const SYSTEM_TABLES = ["system.local", "system.peers", "system.peers_v2", "system_schema.tables"];

function warnOfSystemTables(list: ManifestNode, rules: readonly PortRule[], { warn }: RulesContext): void {
  const compiled = rules.map(({ rule }) => compileCassandraRule(rule as CassandraRule));
  const denied = SYSTEM_TABLES.filter((table) =>
    !judgeCassandra(compiled, { kind: "CASSANDRA", statements: [{ action: "select", table }] }, 0).allowed
  );
  if (denied.length === 0) return;
  warn(
    list.path,
    `drivers select from ${denied.join(", ")} when they connect, and fail where no rule allows it: ` +
      `add {query_action: select, query_table: "^system(_schema)?\\\\."}`,
  );
}

function readMemcache(reader: ManifestReader, node: ManifestNode): MemcacheRule | undefined {
  const texts = readTexts(reader, node, ["command", "keyExact", "keyPrefix", "keyRegex"]);
  if (!texts) return undefined;
  const rule = MemcacheRule.create(texts), { command } = rule;
  if (command !== "" && !MEMCACHE_COMMANDS.includes(command)) {
    return reader.invalid(
      node.fields.get("command")!.value,
      `${JSON.stringify(command)} is no command, want one of ${MEMCACHE_COMMANDS.join(", ")}`,
    );
  }
  const place = node.fields.get("keyRegex")?.value ?? node;
  return compiles(reader, place, () => compileMemcacheRule(rule)) ? rule : undefined;
}
