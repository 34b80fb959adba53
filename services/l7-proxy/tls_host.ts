/** What a connection of TLS has to do with the rest of the proxy: its judge and its records. @module */
import type { ConnectionVerdict } from "./connection_judge.ts";
import { denialText } from "./denial_text.ts";
import type { RedirectedConnection } from "./redirected_connection.ts";
import type { Place } from "./rule_book.ts";
import { StepConnection } from "./step_connection.ts";
import { type ClientHello, TlsConnection, type TlsShared } from "./tls/mod.ts";

/** One connection. */
export class TlsHost {
  readonly #connection: RedirectedConnection;
  readonly #protocol: TlsConnection;
  /** Rules that allowed it. */
  #places: readonly Place[] = [];
  /** Why the rules end it; "": they do not. */
  #closedBy = "";

  constructor(connection: RedirectedConnection, shared: TlsShared) {
    this.#connection = connection;
    this.#protocol = new TlsConnection({
      shared,
      judge: (hello) => this.#judge(hello),
      mayGoOn: (hello) => this.#connection.judge.places === this.#places ? "" : this.#judge(hello),
    });
  }

  /** Runs the connection to its end and closes both sides. Never rejects. @returns why it ended */
  run(): Promise<string> {
    return new StepConnection(this.#connection, this.#protocol, () => this.#closedBy).run();
  }

  /** By the newest rules. The first time it is a request; later only what is not allowed any more is recorded. */
  #judge(hello: ClientHello): string {
    const connection = this.#connection, isFirst = this.#places.length === 0;
    this.#places = connection.judge.places;
    const verdict = connection.judge.judge({ kind: "TLS", serverName: hello.serverName });
    const isAllowed = verdict.verdict === "allowed";
    if (isFirst || !isAllowed) {
      connection.counted(verdict.verdict);
      this.#record(hello, verdict);
    }
    if (isAllowed) return "";
    return this.#closedBy = verdict.why || "server-name-denied";
  }

  /** One record for each end whose rules were asked. */
  #record({ serverName, encryptedHello }: ClientHello, { sides, why }: ConnectionVerdict): void {
    const what = serverName === "" ? "TLS without a server name" : `TLS to ${serverName}`;
    for (const { side, allowed, cookie } of sides) {
      this.#connection.record({
        direction: side,
        type: "REQUEST",
        verdict: allowed ? "FORWARDED" : "DENIED",
        cookie,
        reason: allowed ? "" : why || denialText(sides, what),
        tls: { serverName, encryptedHello },
      });
    }
  }
}
