/**
 * What a connection of Kafka's protocol has to do with the rest of the proxy: its judge and its records.
 * @module
 */
import { kafkaApiName } from "@weir/l7-rules";
import type { Init } from "@weir/proto";
import type { L7Record } from "@weir/proto/l7";
import { denialText } from "./denial_text.ts";
import {
  KafkaConnection,
  type KafkaEvent,
  type KafkaQuestion,
  type KafkaShared,
  type KafkaVerdict,
} from "./kafka/mod.ts";
import type { RedirectedConnection } from "./redirected_connection.ts";
import { StepConnection } from "./step_connection.ts";

/** Topics of a record, and characters of its client's name. */
const TOPICS_RECORDED_MAX = 16, CLIENT_ID_RECORDED_MAX = 255;

/** One connection. */
export class KafkaHost {
  readonly #connection: RedirectedConnection;
  readonly #protocol: KafkaConnection;
  /** Why the rules end it; "": they do not. */
  #closedBy = "";

  constructor(connection: RedirectedConnection, shared: KafkaShared) {
    this.#connection = connection;
    this.#protocol = new KafkaConnection({
      shared,
      client: connection.payer,
      judge: (question) => this.#judge(question),
      now: () => connection.clock.monotonicMs(),
      record: (event) => this.#record(event),
    });
  }

  /** Runs the connection to its end and closes both sides. Never rejects. @returns why it ended */
  run(): Promise<string> {
    return new StepConnection(this.#connection, this.#protocol, () => this.#closedBy).run();
  }

  #judge({ apiKey, apiVersion, clientId, topics }: KafkaQuestion): KafkaVerdict {
    const request = { kind: "KAFKA", apiKey, apiVersion, clientId, topics } as const;
    const { verdict, sides, why } = this.#connection.judge.judge(request);
    if (verdict === "allowed") return { allowed: true, ends: sides, text: "", closes: "" };
    if (verdict === "closed") this.#closedBy = why;
    const named = (topics ?? []).slice(0, TOPICS_RECORDED_MAX).join(", ");
    const text = denialText(
      sides,
      `${kafkaApiName(apiKey)}${named === "" ? "" : ` of ${named}`}`,
    );
    return { allowed: false, ends: sides, text, closes: verdict === "closed" ? why : "" };
  }

  /** One record for each end whose rules were asked. */
  #record(
    {
      type,
      verdict,
      ends,
      apiKey,
      apiVersion,
      clientId,
      topics,
      correlationId,
      errorCode,
      latencyMs,
      reason,
    }: KafkaEvent,
  ): void {
    if (type === "request") this.#connection.counted(verdict === "forwarded" ? "allowed" : "denied");
    for (const { side, allowed, cookie } of ends) {
      const record: Init<L7Record> = {
        direction: side,
        type: type === "request" ? "REQUEST" : "RESPONSE",
        verdict: allowed ? "FORWARDED" : "DENIED",
        cookie,
        latencyNs: Math.round(latencyMs * 1e6),
        reason,
        kafka: {
          apiKey,
          apiVersion,
          clientId: clientId.slice(0, CLIENT_ID_RECORDED_MAX),
          correlationId,
          errorCode,
          topics: topics?.slice(0, TOPICS_RECORDED_MAX) ?? [],
        },
      };
      this.#connection.record(record);
    }
  }
}
