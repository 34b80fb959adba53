/**
 * What a connection of Cassandra's protocol has to do with the rest of the proxy: its judge, its records, and its bytes on both sides.
 * @module
 */
import { cassandraStatement, UNREAD_ACTION } from "@weir/l7-rules";
import type { Init } from "@weir/proto";
import type { L7Record } from "@weir/proto/l7";
import {
  CassandraConnection,
  type CassandraEvent,
  type CassandraQuestion,
  type CassandraShared,
  type CassandraVerdict,
} from "./cassandra/mod.ts";
import { denialText } from "./denial_text.ts";
import type { EndVerdict } from "./end_verdict.ts";
import type { RedirectedConnection } from "./redirected_connection.ts";
import { StepConnection } from "./step_connection.ts";

/** One connection. */
export class CassandraHost {
  readonly #connection: RedirectedConnection;
  readonly #protocol: CassandraConnection;
  /** Why the rules end it; "": they do not. */
  #closedBy = "";

  constructor(connection: RedirectedConnection, shared: CassandraShared) {
    const { handle, clock } = connection;
    this.#connection = connection;
    this.#protocol = new CassandraConnection({
      server: `${handle.serverAddress} ${handle.serverPort}`,
      shared,
      client: connection.payer,
      judge: (question) => this.#judge(question),
      now: () => clock.monotonicMs(),
      record: (event) => this.#record(event),
    });
  }

  /** Runs the connection to its end and closes both sides. Never rejects. @returns why it ended */
  run(): Promise<string> {
    return new StepConnection(this.#connection, this.#protocol, () => this.#closedBy).run();
  }

  #judge({ action, table }: CassandraQuestion): CassandraVerdict {
    const { verdict, sides, why } = this.#connection.judge.judge({
      kind: "CASSANDRA",
      statements: [cassandraStatement(action, table)],
    });
    if (verdict === "allowed") return { allowed: true, ends: sides, text: "", closes: "" };
    if (verdict === "closed") this.#closedBy = why;
    const text = denialText(sides, wordsOf(action, table));
    return { allowed: false, ends: sides, text, closes: verdict === "closed" ? why : "" };
  }

  /** One record for each end whose rules were asked. */
  #record(
    { type, verdict, ends, opcode, action, table, errorCode, latencyMs, reason }: CassandraEvent,
  ): void {
    if (type === "request") this.#connection.counted(verdict === "forwarded" ? "allowed" : "denied");
    const send = (more: Init<L7Record>) =>
      this.#connection.record({
        ...more,
        type: type === "request" ? "REQUEST" : "RESPONSE",
        latencyNs: Math.round(latencyMs * 1e6),
        reason,
        cassandra: { opcode, queryAction: action, queryTable: table, errorCode },
      });
    if (ends.length > 0) { for (const end of ends) send(recorded(end)); }
    else {
      const asked = verdict === "forwarded" ? "FORWARDED" : "ERROR";
      for (const place of this.#connection.judge.places) send({ direction: place.side, verdict: asked });
    }
  }
}

function recorded({ side, allowed, cookie }: EndVerdict): Init<L7Record> {
  return { direction: side, verdict: allowed ? "FORWARDED" : "DENIED", cookie };
}

function wordsOf(action: string, table: string): string {
  if (action === UNREAD_ACTION) return "a statement that cannot be read";
  return table === "" ? action : `${action} on ${table}`;
}
