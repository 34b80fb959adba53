/** What is judged: one request as its parser understood it. @module */

/** One request of one protocol. */
export type L7Request =
  | HttpRequest
  | DnsRequest
  | KafkaRequest
  | CassandraRequest
  | MemcacheRequest
  | ServerNameRequest;

/** HTTP of any version, gRPC too. */
export interface HttpRequest {
  readonly kind: "HTTP";
  /** As it was sent: methods have a case. */
  readonly method: string;
  /** The target with its query string, as it is forwarded. */
  readonly path: string;
  /** Host, or `:authority`, with its port where it was sent with one. */
  readonly host: string;
  /** The value of a header by its name in lower case, several joined with ","; undefined where there is none. */
  readonly header: (name: string) => string | undefined;
}

/** One question for a name. */
export interface DnsRequest {
  readonly kind: "DNS";
  /** Any case, with or without its final dot. */
  readonly name: string;
}

/** One request to a broker. */
export interface KafkaRequest {
  readonly kind: "KAFKA";
  readonly apiKey: number;
  readonly apiVersion: number;
  readonly clientId: string;
  /** Undefined where requests of this key are about no topic; empty where it names none (all topics, for Metadata). */
  readonly topics: readonly string[] | undefined;
}

/** The statements of one request: one, or the members of a batch. */
export interface CassandraRequest {
  readonly kind: "CASSANDRA";
  readonly statements: readonly CassandraStatement[];
}

/** One CQL statement. */
export interface CassandraStatement {
  /** "select", "create-table"; "" where it is none of those that are known. */
  readonly action: string;
  /**
   * `keyspace.table`, of actions on keyspaces the keyspace; as Cassandra has the names: in lower case unless they were
   * quoted. Undefined: it has none, or it is not known.
   */
  readonly table: string | undefined;
}

/** One command. */
export interface MemcacheRequest {
  readonly kind: "MEMCACHE";
  /** By its name in the text protocol, lower case: "get", "set". */
  readonly command: string;
  readonly keys: readonly string[];
}

/** The name in a ClientHello. */
export interface ServerNameRequest {
  readonly kind: "TLS";
  /** "" where the client named none. */
  readonly serverName: string;
}
