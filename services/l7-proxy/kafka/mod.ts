/** Kafka's protocol between a client and a broker: each request is judged. @module */

export { KafkaConnection, type KafkaConnectionOptions } from "./kafka_connection.ts";
export { KafkaShared } from "./limits.ts";
export type { KafkaEvent, KafkaJudge, KafkaQuestion, KafkaVerdict } from "./verdict.ts";
