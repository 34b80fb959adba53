/** A PostgreSQL connection whose every query has a deadline: a server that swallows packets is noticed by silence. @module */
import pg from "pg";
import type { Clock } from "./clock.ts";
import { markDatabaseError } from "./database_error.ts";

/**
 * The class of such connections, for `pg.Pool`. After `ms` without an answer the connection is destroyed: what runs on it
 * fails, and nothing waits behind a query that will never end.
 */
export function deadlineClient(clock: Clock, ms: number): typeof pg.Client {
  return class DeadlineClient extends pg.Client {
    // deno-lint-ignore no-explicit-any
    override query(...args: any[]): any {
      // deno-lint-ignore no-explicit-any
      const answer = (super.query as any)(...args);
      if (typeof answer?.then !== "function") return answer;
      const timer = new AbortController();
      const done = () => timer.abort();
      answer.then(done, (error: unknown) => {
        markDatabaseError(error);
        done();
      });
      void clock.sleep(ms, timer.signal).then(() => {
        if (!timer.signal.aborted) this.#destroy(new Error(`it did not answer within ${ms} ms`));
      });
      return answer;
    }

    #destroy(error: Error): void {
      const { stream } =
        (this as unknown as { connection: { stream: { destroy(error: Error): void } } }).connection;
      stream.destroy(error);
    }
  };
}
