/**
 * Tells the service manager how the agent is (sd_notify(3)): READY=1, STATUS=..., STOPPING=1, and WATCHDOG=1 in half the time
 * that it gives, from the same event loop that does the work. An agent that hangs sends none, and systemd starts it anew.
 *
 * @module
 */
import type { Clock, Logger } from "@weir/common";

/** The manager's variables and what is needed to speak to it. */
export interface ServiceManagerOptions {
  readonly env: (name: string) => string | undefined;
  /** Path for a socket of our own: what is sent needs a sender. */
  readonly ownPath: string;
  readonly clock: Clock;
  readonly log: Logger;
}

/** See sd_notify(3). Every call is cheap and never throws; without a manager nothing is sent. */
export class ServiceManager {
  #socket: Deno.DatagramConn | undefined;
  #failed = false;
  readonly #to: string | undefined;
  readonly #options: ServiceManagerOptions;

  constructor(options: ServiceManagerOptions) {
    this.#options = options;
    this.#to = options.env("NOTIFY_SOCKET") || undefined;
  }

  /** Between two signs of life in milliseconds; undefined when nobody waits for them. */
  get watchdogMs(): number | undefined {
    const microseconds = Number(this.#options.env("WATCHDOG_USEC"));
    const meant = this.#options.env("WATCHDOG_PID");
    if (this.#to === undefined || !(microseconds > 0)) return undefined;
    if (meant && Number(meant) !== Deno.pid) return undefined;
    return microseconds / 1000 / 2;
  }

  /** Sends signs of life until `signal` aborts. */
  async keepAlive(signal: AbortSignal): Promise<void> {
    const intervalMs = this.watchdogMs;
    if (intervalMs === undefined) return;
    while (!signal.aborted) {
      await this.notify("WATCHDOG=1");
      await this.#options.clock.sleep(intervalMs, signal);
    }
  }

  /** Sends assignments, one a line: "READY=1\nSTATUS=every service is ready". */
  async notify(state: string): Promise<void> {
    if (this.#to === undefined) return;
    try {
      this.#socket ??= await this.#open();
      const path = this.#to.startsWith("@") ? `\0${this.#to.slice(1)}` : this.#to;
      await this.#socket.send(new TextEncoder().encode(state), { transport: "unixpacket", path });
    } catch (error) {
      if (!this.#failed) this.#options.log.warn("Cannot tell the service manager", { to: this.#to, error });
      this.#failed = true;
    }
  }

  /** Frees the socket. */
  async close(): Promise<void> {
    this.#socket?.close();
    this.#socket = undefined;
    await Deno.remove(this.#options.ownPath).catch(() => {});
  }

  async #open(): Promise<Deno.DatagramConn> {
    await Deno.remove(this.#options.ownPath).catch(() => {});
    return Deno.listenDatagram({ transport: "unixpacket", path: this.#options.ownPath });
  }
}
