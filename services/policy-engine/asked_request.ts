/** A request that is asked about: as the evaluator has it, in words, and as a rule that means it. @module */
import { invalidArgument } from "@weir/common";
import {
  CASSANDRA_OTHER_ACTIONS,
  CASSANDRA_TABLE_ACTIONS,
  cassandraStatement,
  CqlError,
  cqlTargetOf,
  kafkaApiName,
  type L7Request,
  MemcacheCommandError,
  readCql,
  readCqlQuestion,
  readMemcacheCommand,
} from "@weir/l7-rules";
import type { CassandraQuestion, L7Kind, L7Question } from "@weir/proto/l7";

/** A request, and what is to be said of how it was read. */
export interface AskedRequest {
  readonly request: L7Request;
  /** CQL: why the text cannot be read; "". It is judged as a statement of which nothing is known. */
  readonly unread: string;
  /** CQL: some table is named without its keyspace, and the connection's is not given. */
  readonly isOpen: boolean;
}

/**
 * The request of a question; undefined where none is asked. Methods and names are as they are sent.
 * @throws {ProblemError} INVALID_ARGUMENT
 */
export function requestOf(
  { http, dns, kafka, cassandra, memcache, tls }: L7Question,
): AskedRequest | undefined {
  if (http) {
    const headers = new Map<string, string>();
    for (const { key, value } of http.headers) {
      const name = key.toLowerCase(), before = headers.get(name);
      headers.set(name, before === undefined ? value : `${before},${value}`);
    }
    return plainly({ kind: "HTTP", ...http, header: (name) => headers.get(name) });
  }
  if (dns) return plainly({ kind: "DNS", name: dns.query });
  if (kafka) {
    return plainly({ kind: "KAFKA", ...kafka, topics: kafka.topics.length === 0 ? undefined : kafka.topics });
  }
  if (memcache) return memcacheRequestOf(memcache.command);
  if (tls) return plainly({ kind: "TLS", serverName: tls.serverName });
  return cassandra && cassandraRequestOf(cassandra);
}

function plainly(request: L7Request): AskedRequest {
  return { request, unread: "", isOpen: false };
}

function memcacheRequestOf(line: string): AskedRequest {
  try {
    const { command, keys } = readMemcacheCommand(new TextEncoder().encode(line));
    return plainly({ kind: "MEMCACHE", command, keys });
  } catch (error) {
    if (!(error instanceof MemcacheCommandError)) throw error;
    throw invalidArgument(`Cannot explain: ${error.message}`, {
      found: line,
      expected: "a line of memcached's text protocol: get KEY, set KEY 0 0 5",
    });
  }
}

/** As the proxy has it, on a connection whose keyspace is given. */
function cassandraRequestOf({ cql, keyspace }: CassandraQuestion): AskedRequest {
  const within = keyspace === "" ? "" : keyspaceOf(keyspace);
  const { text: { statements }, unread } = readCqlQuestion(cql);
  const isOpen = within === "" && statements.some((one) => one.scope === "table" && one.keyspace === "");
  return {
    request: {
      kind: "CASSANDRA",
      statements: statements.map((one) => cassandraStatement(one.action, cqlTargetOf(one, within))),
    },
    unread,
    isOpen,
  };
}

/** As `USE` reads the name: in lower case unless it is quoted. */
function keyspaceOf(name: string): string {
  try {
    return readCql(`USE ${name}`).use!;
  } catch (error) {
    if (!(error instanceof CqlError)) throw error;
    throw invalidArgument(`Cannot explain: ${JSON.stringify(name)} is no keyspace: ${error.message}`, {
      found: name,
      expected: 'a name as USE has it: shop, or "Shop" with its quotes',
    });
  }
}

const KAFKA_ROLE_OF: Readonly<Record<string, string>> = { produce: "produce", fetch: "consume" };

const KIND_WORDS: Readonly<Partial<Record<L7Kind, string>>> = {
  KAFKA: "Kafka",
  CASSANDRA: "Cassandra",
  MEMCACHE: "memcached",
  TLS: "server name",
};

/** `HTTP`, `DNS`, `Kafka`, `Cassandra`. */
export function kindWords(kind: L7Kind): string {
  return KIND_WORDS[kind] ?? kind;
}

/** What is asked, in few words: `GET /public`, `select on shop.cart`. */
export function wordsOfRequest({ request, unread }: AskedRequest): string {
  switch (request.kind) {
    case "HTTP":
      return `${request.method} ${request.host === "" ? "" : `http://${request.host}`}${request.path}`;
    case "DNS":
      return request.name;
    case "KAFKA":
      return `${kafkaApiName(request.apiKey)} ${request.topics?.join(", ") ?? ""}`.trim();
    case "CASSANDRA":
      if (unread !== "") return `a statement that cannot be read (${unread})`;
      return request.statements.map(({ action, table }) =>
        table === undefined ? action : `${action} on ${table}`
      ).join(", ");
    case "MEMCACHE":
      return `${request.command} ${request.keys.join(" ")}`.trimEnd();
    case "TLS":
      return request.serverName === "" ? "TLS without a server name" : `TLS to ${request.serverName}`;
  }
}

/**
 * A rule that means the request and no other, as a manifest has it; undefined: rules have no name for what it does.
 * Of a batch one statement is asked, of several keys one.
 */
export function ruleFor(request: L7Request): string | undefined {
  switch (request.kind) {
    case "HTTP": {
      const host = request.host === "" ? "" : `, host: ${literal(request.host)}`;
      return `{method: ${literal(request.method)}, path: ${literal(request.path)}${host}}`;
    }
    case "DNS":
      return `{matchName: ${quoted(request.name)}}`;
    case "KAFKA": {
      const topic = request.topics === undefined ? "" : `, topic: ${quoted(request.topics[0])}`;
      // A client that produces or consumes sends more than that one request: the role has all of them.
      const role = KAFKA_ROLE_OF[kafkaApiName(request.apiKey)];
      const what = role === undefined ? `apiKey: ${kafkaApiName(request.apiKey)}` : `role: ${role}`;
      return `{${what}${topic}}`;
    }
    case "CASSANDRA": {
      const [{ action, table }] = request.statements;
      if (CASSANDRA_TABLE_ACTIONS.has(action) && table !== undefined) {
        return `{query_action: ${action}, query_table: ${quoted(`^${escaped(table)}$`)}}`;
      }
      return CASSANDRA_OTHER_ACTIONS.has(action) ? `{query_action: ${action}}` : undefined;
    }
    case "MEMCACHE":
      return `{command: ${request.command}${
        request.keys.length === 0 ? "" : `, keyExact: ${quoted(request.keys[0])}`
      }}`;
    case "TLS":
      return request.serverName === "" ? undefined : quoted(request.serverName);
  }
}

function quoted(text: string): string {
  return JSON.stringify(text);
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

/** As an expression that means the text alone. */
function literal(text: string): string {
  return quoted(escaped(text));
}
