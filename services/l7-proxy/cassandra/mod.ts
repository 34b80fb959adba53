/**
 * Cassandra's native protocol, versions 3 to 5, between a client and a server: each statement is judged.
 * @module
 */

export { CassandraConnection } from "./cassandra_connection.ts";
export { CassandraShared } from "./limits.ts";
export type { CassandraConnectionOptions } from "./request_judge.ts";
export type { Step } from "../step.ts";
export type { CassandraEvent, CassandraJudge, CassandraQuestion, CassandraVerdict } from "./verdict.ts";
