/** A token that a program gives, as kubeconfigs of cloud providers have it (client.authentication.k8s.io). @module */
import { type Clock, systemClock } from "@weir/common/clock";
import { withDeadline } from "@weir/common/deadline";
import { ProblemError } from "@weir/common/problem";
import type { TokenSource } from "./access.ts";

/** What is run. */
export interface ExecSpec {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly apiVersion: string;
}

/** How long the program may take: it may ask a person to log in. */
const EXEC_MS_MAX = 120_000;
/** A token is asked for again so long before it ends. */
const EARLY_MS = 30_000;
const OUTPUT_CHARS_MAX = 1 << 20;

/** Runs the program when a token is needed and the one before has ended. */
export class ExecToken implements TokenSource {
  #token = "";
  #endMs = -Infinity;
  #running: Promise<string> | undefined;

  constructor(readonly spec: ExecSpec, readonly clock: Clock = systemClock) {}

  /** @throws {ProblemError} EXEC_FAILED */
  async get(): Promise<string> {
    if (this.clock.nowMs() < this.#endMs) return this.#token;
    this.#running ??= this.#run().finally(() => this.#running = undefined);
    return await this.#running;
  }

  refused(): void {
    this.#endMs = -Infinity;
  }

  async #run(): Promise<string> {
    const { command, args, env, apiVersion } = this.spec;
    const failed = (found: string, cause?: unknown) =>
      new ProblemError("EXEC_FAILED", {
        status: 503,
        detail: `Cannot get a token from ${command}: ${found}`,
        found,
        cause,
      });
    const info = { apiVersion, kind: "ExecCredential", spec: { interactive: false } };
    let output: Deno.CommandOutput;
    try {
      output = await withDeadline({
        clock: this.clock,
        ms: EXEC_MS_MAX,
        error: () => new Error(`it took more than ${EXEC_MS_MAX / 1000} s`),
      }, (signal) =>
        new Deno.Command(command, {
          args: [...args],
          env: { ...env, KUBERNETES_EXEC_INFO: JSON.stringify(info) },
          stdin: "null",
          stderr: "inherit",
          signal,
        }).output());
    } catch (cause) {
      throw failed((cause as Error).message, cause);
    }
    if (!output.success) throw failed(`it ended with code ${output.code}`);
    const text = new TextDecoder().decode(output.stdout.subarray(0, OUTPUT_CHARS_MAX));
    let status: { token?: unknown; expirationTimestamp?: unknown } | undefined;
    try {
      status = JSON.parse(text)?.status;
    } catch (cause) {
      throw failed("what it wrote is no JSON", cause);
    }
    if (typeof status?.token !== "string" || status.token === "") throw failed("it gave no token");
    const endMs = typeof status.expirationTimestamp === "string"
      ? Date.parse(status.expirationTimestamp)
      : NaN;
    this.#token = status.token;
    this.#endMs = Number.isNaN(endMs) ? Infinity : endMs - EARLY_MS;
    return this.#token;
  }
}
