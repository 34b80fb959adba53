/** A request within the connection, as it is asked about on the command line. @module */
import type { Init } from "@weir/proto";
import type { L7Question } from "@weir/proto/l7";
import { UsageError } from "../context.ts";

const HINT = "weir help explain";

/** Kafka's numbers of what a client does most. */
const KAFKA_KEYS: Readonly<Record<string, number>> = { produce: 0, fetch: 1, consume: 1, metadata: 3 };

/** Texts of the options. */
export interface RequestOptions {
  /** `GET /public`, `GET http://web.shop/public`. */
  readonly http?: string;
  readonly dns?: string;
  /** `X-Key: value` each. */
  readonly headers?: readonly string[];
  /** `produce:TOPIC`, `produce@9:TOPIC` with the version of its API. */
  readonly kafka?: string;
  readonly clientId?: string;
  /** `get KEY`: a line of the text protocol. Read where it is judged. */
  readonly memcache?: string;
  /** "": the client names no server. */
  readonly serverName?: string;
  /** Read where it is judged. */
  readonly cql?: string;
  readonly keyspace?: string;
}

/** What is asked; undefined where nothing is. @throws {UsageError} */
export function readRequest(
  { http, headers = [], dns, kafka, clientId, cql, keyspace, memcache, serverName }: RequestOptions,
): Init<L7Question> | undefined {
  const given = [http, dns, kafka, cql, memcache, serverName].filter((one) => one !== undefined).length;
  if (given > 1) {
    throw new UsageError(
      "Ask for one request: --http, --dns, --kafka, --cql, --memcache or --server-name",
      HINT,
    );
  }
  if (headers.length > 0 && http === undefined) {
    throw new UsageError("--header is of an HTTP request: give it with --http", HINT);
  }
  if (clientId !== undefined && kafka === undefined) {
    throw new UsageError("--client-id is of a request to Kafka: give it with --kafka", HINT);
  }
  if (keyspace !== undefined && cql === undefined) {
    throw new UsageError("--keyspace is of a statement: give it with --cql", HINT);
  }
  if (http !== undefined) return { http: { ...readHttp(http), headers: headers.map(readHeader) } };
  if (dns !== undefined) return { dns: { query: readName(dns) } };
  if (kafka !== undefined) return { kafka: { ...readKafka(kafka), clientId } };
  if (memcache !== undefined) return { memcache: { command: memcache } };
  if (serverName !== undefined) {
    return { tls: { serverName: serverName === "" ? "" : readName(serverName) } };
  }
  return cql === undefined ? undefined : { cassandra: { cql, keyspace } };
}

function readHttp(text: string): { method: string; path: string; host?: string } {
  const [, method, host, path] =
    /^([!#$%&'*+.^_`|~A-Za-z0-9-]+) (?:https?:\/\/([^\/\s?#]+))?(\/\S*)$/.exec(text) ?? [];
  if (method === undefined) {
    throw new UsageError(
      `"${text}" is no request: expected for example "GET /public?x=1", or "GET http://HOST/public" where rules are about the host`,
      HINT,
    );
  }
  return { method, path, host };
}

function readName(text: string): string {
  if (!/^[^\s.]+(\.[^\s.]+)*\.?$/.test(text)) {
    throw new UsageError(`"${text}" is no name: expected for example www.example.com`, HINT);
  }
  return text;
}

function readHeader(text: string): { key: string; value: string } {
  const [, key, value] = /^([!#$%&'*+.^_`|~A-Za-z0-9-]+):[ \t]*([^\r\n]*?)[ \t]*$/.exec(text) ?? [];
  if (key === undefined) {
    throw new UsageError(`"${text}" is no header: expected for example "X-Key: value"`, HINT);
  }
  return { key, value };
}

function readKafka(text: string): { apiKey: number; apiVersion: number; topics: string[] } {
  const [, word = "", version = "0", topic = ""] = /^([a-z]+)(?:@([0-9]{1,5}))?(?::(.+))?$/.exec(text) ?? [];
  const apiKey = Object.hasOwn(KAFKA_KEYS, word) ? KAFKA_KEYS[word] : -1;
  // Producing and consuming are about topics: without one it would be a question about none.
  if (apiKey < 0 || Number(version) > 32_767 || (topic === "" && word !== "metadata")) {
    throw new UsageError(
      `"${text}" is no request: expected for example produce:TOPIC, consume:TOPIC or metadata, produce@9:TOPIC where rules are about the API's version`,
      HINT,
    );
  }
  return { apiKey, apiVersion: Number(version), topics: topic === "" ? [] : [topic] };
}
