/**
 * Keeps what the cluster does not believe any more (removed machines, tokens that are gone) on this machine too, and hands it back to
 * an authority whose database was restored from before. On a machine of the control plane the authority reads the file itself when it
 * starts, before it answers anybody.
 *
 * @module
 */
import {
  Backoff,
  type Clock,
  credentialPaths,
  errorText,
  isGenuine,
  type Logger,
  mergeWithdrawals,
  readCredentials,
  readMembership,
  readWithdrawals,
  unixSeconds,
  withdrawalName,
  withdrawalsPath,
  writeWithdrawals,
} from "@weir/common";
import { type Target, WeirClient } from "@weir/client";
import { HandBackRequest, HandBackResponse, Withdrawal } from "@weir/proto/certificate";

/** How often the authority is asked: this machine's own, and that of the control plane. */
const OWN_MS = 5000, ASK_MS = 60_000;
/** Withdrawals in one request. */
const BATCH = 500;

/** What the keeper is built from. */
export interface WithdrawalKeeperOptions {
  /** The instance's state directory. */
  directory: string;
  /** Who may read the file: the services' group. */
  gid: number;
  /** The control plane's own authority; absent on a machine that joined. */
  authority?: Target | string;
  clock: Clock;
  log: Logger;
}

/** Runs in the background, see `run()`. */
export class WithdrawalKeeper {
  readonly #options: WithdrawalKeeperOptions;
  #kept: Withdrawal[] | undefined;
  /** How many there are in the file, those that say nothing here included. */
  #written = 0;

  constructor(options: WithdrawalKeeperOptions) {
    this.#options = options;
  }

  /** Asks until `signal` aborts. The authority may be away for long: that is told where certificates are. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, authority } = this.#options;
    const everyMs = authority === undefined ? ASK_MS : OWN_MS;
    const backoff = new Backoff({ delayMsMin: 500, delayMsMax: everyMs });
    while (!signal.aborted) {
      let waitMs = everyMs;
      try {
        await this.step();
        backoff.reset();
      } catch (error) {
        waitMs = backoff.nextMs();
        log.debug("Withdrawals were not compared", { error: errorText(error), retryMs: waitMs });
      }
      await clock.sleep(waitMs, signal);
    }
  }

  /** Compares once: hands back what the authority lacks, and keeps what it has. */
  async step(): Promise<void> {
    const { clock, directory, gid, log } = this.#options;
    const { cluster, authorities } = this.#credentials();
    const isOurs = (one: Withdrawal) => isGenuine(one, { cluster, authorities });
    this.#kept ??= this.#read().filter(isOurs);
    const nowS = unixSeconds(clock);
    const client = new WeirClient(this.#target());
    try {
      const { items } = await client.collection("withdrawals", Withdrawal).list();
      const told = new Map(items.map((one) => [withdrawalName(one), one.withdrawnUnixS]));
      const kept = mergeWithdrawals([this.#kept], nowS);
      const missing = kept.filter((one) => !((told.get(withdrawalName(one)) ?? -1) >= one.withdrawnUnixS));
      for (let at = 0; at < missing.length; at += BATCH) {
        const { taken } = await client.call("/v1/withdrawals:hand-back", {
          request: { message: HandBackRequest, value: { items: missing.slice(at, at + BATCH) } },
          response: HandBackResponse,
        });
        if (taken > 0) log.warn("The control plane had forgotten what was removed: handed back", { taken });
      }
      const known = new Map(kept.map((one) => [withdrawalName(one), one.withdrawnUnixS]));
      const news = items.filter((one) => !((known.get(withdrawalName(one)) ?? -1) >= one.withdrawnUnixS));
      const next = mergeWithdrawals([kept, news.filter(isOurs)], nowS);
      if (next.length !== this.#written || news.length > 0) {
        writeWithdrawals(withdrawalsPath(directory), next, { uid: Deno.uid()!, gid });
        this.#written = next.length;
      }
      this.#kept = next;
    } finally {
      client.close();
    }
  }

  #read(): Withdrawal[] {
    const { directory, log } = this.#options;
    try {
      const found = readWithdrawals(withdrawalsPath(directory));
      this.#written = found.length;
      return found;
    } catch (error) {
      // The authority tells all of them again.
      log.warn("Withdrawals that were kept cannot be read", { error: errorText(error) });
      return [];
    }
  }

  #credentials() {
    const { authorities, facts } = readCredentials(credentialPaths(this.#options.directory));
    return { cluster: facts.cluster, authorities };
  }

  #target(): Target | string {
    const { authority, directory } = this.#options;
    if (authority !== undefined) return authority;
    const addresses = readMembership(directory)?.addresses ?? [];
    return { url: addresses.map((address) => `https://${address}`).join(","), tlsDirectory: directory };
  }
}
